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
    /// Runs the script.
    pub(crate) async fn run<K, A>(&self, link: &Link, slot: u16, keys: &[K], arguments: &[A]) -> Result<Value>
    where
        K: AsRef<[u8]>,
        A: AsRef<[u8]>,
    {
        let sizes =
            keys.iter().map(|key| key.as_ref().len()).chain(arguments.iter().map(|a| a.as_ref().len()));
        let parts = (keys.len() + arguments.len(), sizes.sum());
        let fill = |command: &mut Cmd| {
            command.arg(keys.len());
            for key in keys {
                command.arg(key.as_ref());
            }
            for argument in arguments {
                command.arg(argument.as_ref());
            }
        };
        self.run_filled(link, slot, parts, fill).await
    }

    /// Runs the script with what `fill` adds to the command: the number of keys, the keys, and the arguments; `parts` says
    /// about how many these are and how many bytes they have. A server that does not know the script yet is told its
    /// source: nothing has run then.
    pub(crate) async fn run_filled(
        &self,
        link: &Link,
        slot: u16,
        parts: (usize, usize),
        fill: impl Fn(&mut Cmd),
    ) -> Result<Value> {
        let command = |how: &str, code: &str| -> Cmd {
            let mut command = Cmd::with_capacity(parts.0 + 3, parts.1 + code.len() + 16);
            command.arg(how).arg(code);
            fill(&mut command);
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
