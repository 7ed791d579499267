//! Links the program to a fixed address.
//!
//! A position-independent program is relocated by the loader at each start, which writes to every page that holds an
//! address of its own: more than a megabyte that no two processes can share, for each Pod's shim. Linked to a fixed
//! address these pages stay as they are in the file, and all processes share them.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bins=-no-pie");
}
