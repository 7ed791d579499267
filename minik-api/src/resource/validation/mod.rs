//! What several kinds validate alike: names, metadata, labels, addresses, paths, quantities, in the words of
//! apimachinery's validation packages. Pure functions that append to a list of field errors.

pub mod conditions;
pub mod ip;
pub mod labels;
pub mod meta;
pub mod names;
pub mod paths;
pub mod quantity;
pub mod resources;
pub mod time;
