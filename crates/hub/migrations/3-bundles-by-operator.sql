-- Who has brought a bundle: nobody fills the disk with what no release names. Not known of those from before.
ALTER TABLE bundles ADD COLUMN operator TEXT NOT NULL DEFAULT '';
