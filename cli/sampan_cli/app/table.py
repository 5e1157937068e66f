"""Which commands there are and where they live. The one-line helps are here so that ``sampan --help`` imports none."""

from typing import Final

from sampan_cli.app.lazy import Entry

_ENGINE: Final = {
    "up": Entry("system.up", "Start the engine"),
    "down": Entry("system.down", "Stop the engine; containers keep running"),
    "status": Entry("system.status", "Show the engine's services and whether they are healthy"),
    "info": Entry("system.info", "Display system-wide information"),
    "version": Entry("system.version", "Show the version information"),
    "events": Entry("system.events", "Get real time events from the engine"),
    "login": Entry("registry.login", "Authenticate to a registry"),
    "logout": Entry("registry.logout", "Log out from a registry"),
    "search": Entry("registry.search", "Search a registry for images"),
    "completion": Entry("system.completion", "Print the completion script for a shell"),
}

# What `sampan container` and `sampan` both have.
_CONTAINER: Final = {
    "run": Entry("container.run", "Create and run a new container from an image"),
    "exec": Entry("container.exec", "Execute a command in a running container"),
    "create": Entry("container.create", "Create a new container"),
    "start": Entry("container.start", "Start one or more stopped containers"),
    "attach": Entry("container.attach", "Attach local streams to a running container"),
    "stop": Entry("container.lifecycle:stop", "Stop one or more running containers"),
    "restart": Entry("container.lifecycle:restart", "Restart one or more containers"),
    "kill": Entry("container.lifecycle:kill", "Kill one or more running containers"),
    "pause": Entry("container.lifecycle:pause", "Pause all processes within one or more containers"),
    "unpause": Entry("container.lifecycle:unpause", "Unpause all processes within one or more containers"),
    "wait": Entry("container.lifecycle:wait", "Block until containers stop, then print their exit codes"),
    "logs": Entry("container.logs", "Fetch the logs of a container"),
    "top": Entry("container.inspect:top", "Display the running processes of a container"),
    "stats": Entry("container.stats", "Display a live stream of resource usage statistics"),
    "port": Entry("container.inspect:port", "List port mappings of a container"),
    "diff": Entry("container.inspect:diff", "Inspect changes on a container's filesystem"),
    "cp": Entry("container.cp", "Copy files between a container and the local filesystem"),
    "commit": Entry("container.commit:commit", "Create a new image from a container's changes"),
    "export": Entry("container.commit:export", "Export a container's filesystem as a tar archive"),
    "rename": Entry("container.lifecycle:rename", "Rename a container"),
    "update": Entry("container.update", "Update configuration of one or more containers"),
    "rm": Entry("container.remove:rm", "Remove one or more containers"),
}

CONTAINER: Final = {
    **_CONTAINER,
    "ls": Entry("container.ps", "List containers"),
    "list": Entry("container.ps", "List containers", hidden=True),
    "ps": Entry("container.ps", "List containers", hidden=True),
    "inspect": Entry("container.inspect:inspect", "Display detailed information on containers"),
    "prune": Entry("container.remove:prune", "Remove all stopped containers"),
}

IMAGE: Final = {
    "build": Entry("builder.build", "Build an image from a Dockerfile"),
    "ls": Entry("image.ls", "List images"),
    "list": Entry("image.ls", "List images", hidden=True),
    "pull": Entry("image.pull", "Download an image from a registry"),
    "push": Entry("image.push", "Upload an image to a registry"),
    "save": Entry("image.save", "Save one or more images to a tar archive"),
    "load": Entry("image.load", "Load images from a tar archive or STDIN"),
    "tag": Entry("image.tag", "Create a tag TARGET that refers to the image SOURCE"),
    "rm": Entry("image.rm", "Remove one or more images"),
    "import": Entry("image.import_image", "Import the contents from a tarball to create an image"),
    "history": Entry("image.history", "Show the history of an image"),
    "inspect": Entry("image.inspect", "Display detailed information on images"),
    "prune": Entry("image.prune", "Remove unused images"),
}

BUILDER: Final = {
    "build": Entry("builder.build", "Build an image from a Dockerfile"),
    "prune": Entry("builder.prune", "Remove build cache"),
}

NETWORK: Final = {
    "create": Entry("network.create", "Create a network"),
    "ls": Entry("network.ls", "List networks"),
    "list": Entry("network.ls", "List networks", hidden=True),
    "inspect": Entry("network.inspect", "Display detailed information on networks"),
    "connect": Entry("network.connect", "Connect a container to a network"),
    "disconnect": Entry("network.disconnect", "Disconnect a container from a network"),
    "rm": Entry("network.rm", "Remove one or more networks"),
    "prune": Entry("network.prune", "Remove all unused networks"),
}

VOLUME: Final = {
    "create": Entry("volume.create", "Create a volume"),
    "ls": Entry("volume.ls", "List volumes"),
    "list": Entry("volume.ls", "List volumes", hidden=True),
    "inspect": Entry("volume.inspect", "Display detailed information on volumes"),
    "export": Entry("volume.export", "Export a volume's content as a tar archive"),
    "import": Entry("volume.import_volume", "Import a tar archive into a volume"),
    "rm": Entry("volume.rm", "Remove one or more volumes"),
    "prune": Entry("volume.prune", "Remove unused local volumes"),
}

REGISTRY: Final = {
    "serve": Entry("registry.serve", "Serve a registry over the engine's content"),
}

CRI: Final = {
    "serve": Entry("cri.serve", "Serve Kubernetes' Container Runtime Interface"),
}

SYSTEM: Final = {
    "info": Entry("system.info", "Display system-wide information"),
    "df": Entry("system.df", "Show disk usage"),
    "check": Entry("system.check", "Find damage to what the engine keeps, and repair it"),
    "events": Entry("system.events", "Get real time events from the engine"),
    "gc": Entry("system.gc", "Remove content and layers that nothing needs"),
    "prune": Entry("system.prune", "Remove unused data"),
    "certs": Entry("setup.certs", "Make certificates for reaching the engine over TCP"),
    "import-config": Entry("setup.import_config", "Translate a dockerd's daemon.json"),
    "dial-stdio": Entry("system.dial_stdio", "Proxy the standard streams to the Docker API", hidden=True),
}

CONTEXT: Final = {
    "create": Entry("context.contexts:create", "Create a context"),
    "ls": Entry("context.contexts:ls", "List contexts"),
    "list": Entry("context.contexts:ls", "List contexts", hidden=True),
    "inspect": Entry("context.contexts:inspect", "Display detailed information on contexts"),
    "use": Entry("context.contexts:use", "Set the context in use"),
    "show": Entry("context.contexts:show", "Print the name of the context in use"),
    "update": Entry("context.contexts:update", "Update a context"),
    "rm": Entry("context.contexts:rm", "Remove one or more contexts"),
    "remove": Entry("context.contexts:rm", "Remove one or more contexts", hidden=True),
    "export": Entry("context.contexts:export", "Export a context to a tar archive"),
    "import": Entry("context.contexts:import_", "Import a context from a tar archive"),
}

MANIFEST: Final = {
    "create": Entry("manifest.manifests:create", "Create a local manifest list"),
    "annotate": Entry("manifest.manifests:annotate", "Add information to a manifest of a local list"),
    "inspect": Entry("manifest.manifests:inspect", "Display an image manifest, or a manifest list"),
    "push": Entry("manifest.manifests:push", "Push a manifest list to a repository"),
    "rm": Entry("manifest.manifests:rm", "Delete one or more local manifest lists"),
}

ROOT: Final = {
    **_CONTAINER,
    "ps": Entry("container.ps", "List containers"),
    "inspect": Entry("system.inspect", "Return low-level information on any object"),
    "build": Entry("builder.build", "Build an image from a Dockerfile"),
    "images": Entry("image.ls", "List images"),
    "pull": Entry("image.pull", "Download an image from a registry"),
    "push": Entry("image.push", "Upload an image to a registry"),
    "save": Entry("image.save", "Save one or more images to a tar archive"),
    "load": Entry("image.load", "Load images from a tar archive or STDIN"),
    "import": Entry("image.import_image", "Import the contents from a tarball to create an image"),
    "tag": Entry("image.tag", "Create a tag TARGET that refers to the image SOURCE"),
    "history": Entry("image.history", "Show the history of an image"),
    "rmi": Entry("image.rm", "Remove one or more images"),
    "container": Entry("groups:container", "Manage containers"),
    "image": Entry("groups:image", "Manage images"),
    "builder": Entry("groups:builder", "Manage builds"),
    "network": Entry("groups:network", "Manage networks"),
    "volume": Entry("groups:volume", "Manage volumes"),
    "context": Entry("groups:context", "Manage contexts"),
    "manifest": Entry("groups:manifest", "Manage image manifests and manifest lists"),
    "registry": Entry("groups:registry", "Serve the engine's images to others"),
    "cri": Entry("groups:cri", "Run Kubernetes' pods"),
    "system": Entry("groups:system", "Manage the engine"),
    **_ENGINE,
}
