//! Request bodies (JSON, YAML) to JSON objects that fit their kind's schema, with the API server's
//! error texts for syntax errors, wrong types, and unknown or duplicate fields.
