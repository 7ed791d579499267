//! Label and field selectors: parse a query string, match an object.
