//! What the wire tests share: a strict recorder of an origin, scripted peers, and the case files.

pub mod cases;
pub mod origin;
pub mod relay;
