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

-- What is in a closure, as it goes to hosts. `since`: when an operator has asked for it last.
CREATE TABLE closures (
    id INTEGER PRIMARY KEY,
    digest TEXT UNIQUE NOT NULL,
    contents TEXT NOT NULL,
    since BIGINT NOT NULL
);

CREATE TABLE release_closures (
    number BIGINT NOT NULL REFERENCES releases (number),
    host TEXT NOT NULL,
    digest TEXT NOT NULL REFERENCES closures (digest),
    PRIMARY KEY (number, host)
);

CREATE INDEX release_closures_of_host ON release_closures (host, number);

CREATE INDEX release_closures_of_closure ON release_closures (digest);

-- Archives that are on the disk, whole. `since`: when an operator has asked for it last.
CREATE TABLE objects (
    id INTEGER PRIMARY KEY,
    hash TEXT UNIQUE NOT NULL,
    size BIGINT NOT NULL,
    stored BIGINT NOT NULL,
    since BIGINT NOT NULL
);

CREATE INDEX objects_by_time ON objects (since);

-- What a closure needs. It has a row for every archive of it, from the moment on that it is there.
CREATE TABLE closure_objects (
    closure INTEGER NOT NULL REFERENCES closures (id) ON DELETE CASCADE,
    object INTEGER NOT NULL REFERENCES objects (id),
    PRIMARY KEY (closure, object)
) WITHOUT ROWID;

CREATE INDEX closure_objects_of_object ON closure_objects (object);

CREATE TABLE reports (
    host TEXT NOT NULL,
    id TEXT NOT NULL,
    received BIGINT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (host, id)
);

CREATE INDEX reports_by_time ON reports (host, received);
