//! What a pending call is known by across the ABI.

use std::ffi::c_void;
use std::ptr;

#[cfg(not(target_pointer_width = "64"))]
compile_error!("plugins are loaded on 64-bit targets only: a token is a 64-bit number passed as a pointer");

/// The number that stands for a call: which plugin, which slot, and which of the slot's uses. It crosses the ABI
/// as a pointer that nobody follows, so that one which a plugin made up, or used before, is told from a good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token(u64);

const INDEX_BITS: u32 = 24;
const PLUGIN_BITS: u32 = 12;
const GENERATION_BITS: u32 = 64 - INDEX_BITS - PLUGIN_BITS;

/// How many plugins a process can load.
pub(super) const MAX_PLUGINS: usize = 1 << PLUGIN_BITS;
/// How many calls to one plugin can be in flight.
pub(super) const MAX_CALLS: u32 = 1 << INDEX_BITS;

impl Token {
    pub(super) fn new(plugin: u16, index: u32, generation: u32) -> Self {
        let plugin = u64::from(plugin) << INDEX_BITS;
        Self(u64::from(generation) << (INDEX_BITS + PLUGIN_BITS) | plugin | u64::from(index))
    }

    pub(super) fn plugin(self) -> usize {
        (self.0 >> INDEX_BITS) as usize & (MAX_PLUGINS - 1)
    }

    pub(super) fn index(self) -> u32 {
        self.0 as u32 & (MAX_CALLS - 1)
    }

    pub(super) fn generation(self) -> u32 {
        (self.0 >> (INDEX_BITS + PLUGIN_BITS)) as u32
    }

    pub(super) fn to_raw(self) -> *mut c_void {
        ptr::without_provenance_mut(self.0 as usize)
    }

    pub(super) fn from_raw(token: *mut c_void) -> Self {
        Self(token.addr() as u64)
    }
}

/// The generation after `generation`. Never 0, so that small numbers and null are no tokens.
pub(super) fn following(generation: u32) -> u32 {
    ((generation + 1) & ((1 << GENERATION_BITS) - 1)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_keeps_its_parts() {
        let last = (1 << GENERATION_BITS) - 1;
        for (plugin, index, generation) in [(0, 0, 1), (4095, MAX_CALLS - 1, last), (7, 123_456, 99)] {
            let token = Token::from_raw(Token::new(plugin, index, generation).to_raw());
            assert_eq!((token.plugin(), token.index()), (usize::from(plugin), index));
            assert_eq!(token.generation(), generation);
        }
        assert_eq!(following(last), 1);
        assert_eq!(following(1), 2);
    }
}
