CREATE TABLE twotower_state (schema_version INTEGER NOT NULL PRIMARY KEY);
INSERT INTO twotower_state VALUES (1);
CREATE TABLE items (
    item_id VARCHAR(200) NOT NULL PRIMARY KEY, title TEXT NOT NULL, description TEXT,
    features TEXT, price FLOAT(53), category TEXT, store TEXT, average_rating FLOAT(53),
    rating_count BIGINT, image TEXT, deleted BOOLEAN NOT NULL, text_encoder TEXT,
    text_vector {blob}, revision BIGINT NOT NULL
);
CREATE UNIQUE INDEX items_revision ON items (revision);
CREATE TABLE item_encodings (
    item_id VARCHAR(200) NOT NULL PRIMARY KEY, revision BIGINT NOT NULL,
    model_version TEXT NOT NULL, encoding {blob} NOT NULL
);
CREATE TABLE availability (
    item_id VARCHAR(200) NOT NULL PRIMARY KEY, available BOOLEAN NOT NULL,
    revision BIGINT NOT NULL
);
CREATE UNIQUE INDEX availability_revision ON availability (revision);
CREATE TABLE events (
    seq {sequence}, event_id VARCHAR(200) NOT NULL, user_id VARCHAR(200) NOT NULL,
    item_id VARCHAR(200) NOT NULL, kind VARCHAR(10) NOT NULL, rating FLOAT(53),
    timestamp BIGINT NOT NULL, UNIQUE (event_id)
)
