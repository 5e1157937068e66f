-- Kubernetes' name for the container that keeps a shared pid namespace.
ALTER TABLE sandboxes RENAME COLUMN holder TO infra;
