"""Which commands there are and where they live. The one-line helps are here so that ``sampan --help`` imports none."""

from typing import Final

from sampan_cli.lazy import Entry

_ENGINE: Final = {
    "up": Entry("up", "Start the engine"),
    "down": Entry("down", "Stop the engine; containers keep running"),
    "status": Entry("status", "Show the engine's services and whether they are healthy"),
    "info": Entry("info", "Display system-wide information"),
    "version": Entry("version", "Show the version information"),
    "events": Entry("events", "Get real time events from the engine"),
    "login": Entry("login", "Authenticate to a registry"),
    "logout": Entry("logout", "Log out from a registry"),
    "search": Entry("search", "Search a registry for images"),
    "completion": Entry("completion", "Print the completion script for a shell"),
}

# What `sampan container` and `sampan` both have.
_CONTAINER: Final = {
    "run": Entry("run", "Create and run a new container from an image"),
    "exec": Entry("exec", "Execute a command in a running container"),
    "create": Entry("create", "Create a new container"),
    "start": Entry("start", "Start one or more stopped containers"),
    "attach": Entry("attach", "Attach local streams to a running container"),
    "stop": Entry("stop", "Stop one or more running containers"),
    "restart": Entry("restart", "Restart one or more containers"),
    "kill": Entry("kill", "Kill one or more running containers"),
    "pause": Entry("pause", "Pause all processes within one or more containers"),
    "unpause": Entry("unpause", "Unpause all processes within one or more containers"),
    "wait": Entry("wait", "Block until containers stop, then print their exit codes"),
    "logs": Entry("logs", "Fetch the logs of a container"),
    "top": Entry("top", "Display the running processes of a container"),
    "stats": Entry("stats", "Display a live stream of resource usage statistics"),
    "port": Entry("port", "List port mappings of a container"),
    "diff": Entry("diff", "Inspect changes on a container's filesystem"),
    "cp": Entry("cp", "Copy files between a container and the local filesystem"),
    "commit": Entry("commit", "Create a new image from a container's changes"),
    "export": Entry("export", "Export a container's filesystem as a tar archive"),
    "rename": Entry("rename", "Rename a container"),
    "update": Entry("update", "Update configuration of one or more containers"),
    "rm": Entry("rm", "Remove one or more containers"),
}

CONTAINER: Final = {
    **_CONTAINER,
    "ls": Entry("ps", "List containers"),
    "list": Entry("ps", "List containers", hidden=True),
    "ps": Entry("ps", "List containers", hidden=True),
    "inspect": Entry("container_inspect", "Display detailed information on containers"),
    "prune": Entry("container_prune", "Remove all stopped containers"),
}

IMAGE: Final = {
    "ls": Entry("images", "List images"),
    "list": Entry("images", "List images", hidden=True),
    "pull": Entry("pull", "Download an image from a registry"),
    "push": Entry("push", "Upload an image to a registry"),
    "save": Entry("save", "Save one or more images to a tar archive"),
    "load": Entry("load", "Load images from a tar archive or STDIN"),
    "tag": Entry("tag", "Create a tag TARGET that refers to the image SOURCE"),
    "rm": Entry("rmi", "Remove one or more images"),
    "import": Entry("import_image", "Import the contents from a tarball to create an image"),
    "history": Entry("history", "Show the history of an image"),
    "inspect": Entry("image_inspect", "Display detailed information on images"),
    "prune": Entry("image_prune", "Remove unused images"),
}

NETWORK: Final = {
    "create": Entry("network_create", "Create a network"),
    "ls": Entry("network_ls", "List networks"),
    "list": Entry("network_ls", "List networks", hidden=True),
    "inspect": Entry("network_inspect", "Display detailed information on networks"),
    "connect": Entry("network_connect", "Connect a container to a network"),
    "disconnect": Entry("network_disconnect", "Disconnect a container from a network"),
    "rm": Entry("network_rm", "Remove one or more networks"),
    "prune": Entry("network_prune", "Remove all unused networks"),
}

VOLUME: Final = {
    "create": Entry("volume_create", "Create a volume"),
    "ls": Entry("volume_ls", "List volumes"),
    "list": Entry("volume_ls", "List volumes", hidden=True),
    "inspect": Entry("volume_inspect", "Display detailed information on volumes"),
    "rm": Entry("volume_rm", "Remove one or more volumes"),
    "prune": Entry("volume_prune", "Remove unused local volumes"),
}

REGISTRY: Final = {
    "serve": Entry("registry_serve", "Serve a registry over the engine's content"),
}

SYSTEM: Final = {
    "info": Entry("info", "Display system-wide information"),
    "df": Entry("df", "Show disk usage"),
    "check": Entry("system_check", "Find damage to what the engine keeps, and mend it"),
    "events": Entry("events", "Get real time events from the engine"),
    "gc": Entry("system_gc", "Remove content and layers that nothing needs"),
    "prune": Entry("system_prune", "Remove unused data"),
}

ROOT: Final = {
    **_CONTAINER,
    "ps": Entry("ps", "List containers"),
    "inspect": Entry("inspect", "Return low-level information on any object"),
    "images": Entry("images", "List images"),
    "pull": Entry("pull", "Download an image from a registry"),
    "push": Entry("push", "Upload an image to a registry"),
    "save": Entry("save", "Save one or more images to a tar archive"),
    "load": Entry("load", "Load images from a tar archive or STDIN"),
    "import": Entry("import_image", "Import the contents from a tarball to create an image"),
    "tag": Entry("tag", "Create a tag TARGET that refers to the image SOURCE"),
    "history": Entry("history", "Show the history of an image"),
    "rmi": Entry("rmi", "Remove one or more images"),
    "container": Entry("container", "Manage containers"),
    "image": Entry("image", "Manage images"),
    "network": Entry("network", "Manage networks"),
    "volume": Entry("volume", "Manage volumes"),
    "registry": Entry("registry", "Serve the engine's images to others"),
    "system": Entry("system", "Manage the engine"),
    **_ENGINE,
}
