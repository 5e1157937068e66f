-- A lasting lease belongs to a service, which chose its ID; '' are those of operations. It is complete, and expires_ns
-- means nothing for it: it ends when its owner removes it.
ALTER TABLE leases ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE leases ADD COLUMN created_ns INTEGER NOT NULL DEFAULT 0;

CREATE INDEX leases_by_owner ON leases (owner) WHERE owner != '';

-- Which leases stand on a base layer: asked whenever an image is removed, and there may be thousands of them.
CREATE INDEX lease_layers_by_base ON lease_layers (diff_id) WHERE position = 0;
