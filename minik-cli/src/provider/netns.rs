//! Nodes as network namespaces: the fabric, the nodes' links and the outside world's one link.
//!
//! Works through `minik_node::kernel` only. Remembers nothing: everything it made is found again by name.
