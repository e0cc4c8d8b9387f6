-- What is encrypted for hosts, each as it goes to one. `since`: when an operator has asked for it last.
CREATE TABLE bundles (
    digest TEXT PRIMARY KEY NOT NULL,
    bundle BLOB NOT NULL,
    since BIGINT NOT NULL
);

CREATE TABLE release_bundles (
    number BIGINT NOT NULL REFERENCES releases (number),
    host TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES bundles (digest),
    PRIMARY KEY (number, host)
);

CREATE INDEX release_bundles_of_bundle ON release_bundles (digest);
