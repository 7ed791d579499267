//! Status errors
