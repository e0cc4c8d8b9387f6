-- Who is let in. What a host has said of itself is kept from one start of the hub to the next; it says it anew.
CREATE TABLE hosts (
    name TEXT PRIMARY KEY NOT NULL,
    joined BIGINT NOT NULL,
    gone BIGINT,
    held TEXT,
    lift BIGINT,
    ratchet BIGINT NOT NULL DEFAULT 0,
    alarm TEXT,
    standing TEXT,
    seen BIGINT
);

CREATE TABLE host_keys (
    key TEXT PRIMARY KEY NOT NULL,
    host TEXT NOT NULL REFERENCES hosts (name),
    since BIGINT NOT NULL,
    place BIGINT NOT NULL
);

-- Immutable.
CREATE TABLE releases (
    number BIGINT PRIMARY KEY NOT NULL,
    line TEXT NOT NULL,
    document TEXT NOT NULL,
    published BIGINT NOT NULL
);

CREATE TABLE closures (
    digest TEXT PRIMARY KEY NOT NULL,
    contents TEXT NOT NULL
);

CREATE TABLE release_closures (
    number BIGINT NOT NULL REFERENCES releases (number),
    host TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES closures (digest),
    PRIMARY KEY (number, host)
);

CREATE INDEX release_closures_of_host ON release_closures (host, number);

-- Archives that are on the disk, whole.
CREATE TABLE objects (
    hash TEXT PRIMARY KEY NOT NULL,
    size BIGINT NOT NULL,
    stored BIGINT NOT NULL,
    since BIGINT NOT NULL
);

CREATE TABLE reports (
    host TEXT NOT NULL,
    id TEXT NOT NULL,
    received BIGINT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (host, id)
);

CREATE INDEX reports_by_time ON reports (host, received);
