//! What the tests of the CRI share: a node of their own (containerd with its CRI plugin), a client of it, pods and their
//! containers, and the streams of `exec` and `attach`.
#![forbid(unsafe_code)]

pub mod cri;
pub mod node;
pub mod pods;
pub mod streaming;

pub use cri::{Answer, Cri, known};
pub use node::Node;
pub use pods::{Container, Pod};
