//! How long records live: strategies by collection, and the layer that keeps to them.

mod expire;
mod strategy;

pub use expire::Expire;
pub use strategy::{Lifetime, Strategy, TimeToLive};
