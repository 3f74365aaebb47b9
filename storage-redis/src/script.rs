//! The scripts that run in the server, called by their digest.

use std::sync::LazyLock;

use redis::{Cmd, Script, Value};
use storage_core::Result;

use crate::error::code;
use crate::link::Link;

/// One script, and the digest by which servers know it.
pub(crate) struct Code {
    source: &'static str,
    script: LazyLock<Script>,
}

macro_rules! scripts {
    ($($name:ident = $file:literal)*) => {
        $(pub(crate) static $name: Code = Code {
            source: include_str!(concat!("scripts/", $file)),
            script: LazyLock::new(|| Script::new(include_str!(concat!("scripts/", $file)))),
        };)*
    };
}

scripts! {
    PUT = "put.lua"
    WRITE = "write.lua"
    READ = "read.lua"
    RANGE = "range.lua"
    COUNT = "count.lua"
    REMOVE = "remove.lua"
    RAW = "raw.lua"
    FORGET = "forget.lua"
}

impl Code {
    /// Runs the script. A server that does not know it yet is told its source: nothing has run then.
    pub(crate) async fn run<K, A>(&self, link: &Link, slot: u16, keys: &[K], arguments: &[A]) -> Result<Value>
    where
        K: AsRef<[u8]>,
        A: AsRef<[u8]>,
    {
        let command = |how: &str, code: &str| -> Cmd {
            let size =
                keys.iter().map(|key| key.as_ref().len()).chain(arguments.iter().map(|a| a.as_ref().len()));
            let mut command = Cmd::with_capacity(3 + keys.len() + arguments.len(), size.sum::<usize>() + 64);
            command.arg(how).arg(code).arg(keys.len());
            for key in keys {
                command.arg(key.as_ref());
            }
            for argument in arguments {
                command.arg(argument.as_ref());
            }
            command
        };
        let done = link.one(slot, command("EVALSHA", self.script.get_hash())).await;
        match done {
            Err(error) if code(&error) == Some("NOSCRIPT") => {
                link.one(slot, command("EVAL", self.source)).await
            }
            done => done,
        }
    }
}
