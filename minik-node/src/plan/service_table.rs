//! service_table
