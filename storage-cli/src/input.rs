//! What comes in: arguments, files and standard input, within limits.

use std::io::{BufReader, Read};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use storage_core::{ErrorKind, Json, Timestamp};

use crate::exit::Failure;
use crate::output::compact;

/// A named file, or standard input for `-`, and its size if it is known.
pub(crate) fn open(path: &Path) -> Result<(Box<dyn Read + Send>, Option<u64>), Failure> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let failed = |error: std::io::Error| unreadable(path, &error);
    let file = std::fs::File::open(path).map_err(failed)?;
    let about = file.metadata().map_err(failed)?;
    if about.is_dir() {
        return Err(Failure::invalid("input", format!("{} is a directory: name a file", path.display())));
    }
    Ok((Box::new(file), about.is_file().then_some(about.len())))
}

/// A reader in large pieces.
pub(crate) fn buffered(reader: impl Read) -> BufReader<impl Read> {
    BufReader::with_capacity(256 << 10, reader)
}

pub(crate) fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let name = if path.as_os_str() == "-" { "standard input".into() } else { path.display().to_string() };
    Failure::invalid("input", format!("{name} cannot be read: {error}"))
}

/// All of a file or of standard input, if it has at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: usize) -> Result<Bytes, Failure> {
    let (reader, _) = open(path)?;
    let mut data = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(bound).read_to_end(&mut data).map_err(|error| unreadable(path, &error))?;
    if data.len() > limit {
        let message = format!("{} has more than {limit} bytes, the limit of this backend", path.display());
        return Err(Failure::new(ErrorKind::TooLarge, "input", message));
    }
    Ok(data.into())
}

/// JSON text, on one line.
pub(crate) fn json(text: Bytes) -> Result<Json, Failure> {
    let json = Json::parse(text).map_err(|error| {
        Failure::from(error.operation("input")).suffixed("a text needs its quotes, as in '\"ada\"'")
    })?;
    let broken = json.as_bytes().contains(&b'\n');
    Ok(if broken { Json::from_stored(compact(json.as_bytes())) } else { json })
}

/// A time to live such as `30s` or `1h 30m`.
pub(crate) fn ttl(text: &str) -> Result<Duration, String> {
    let ttl = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write such as 30s, 15m or \"1h 30m\""))?;
    if ttl.as_millis() == 0 { Err("it is at least 1ms".to_owned()) } else { Ok(ttl) }
}

/// A time: RFC 3339, or milliseconds since the Unix epoch.
pub(crate) fn time(text: &str) -> Result<Timestamp, Failure> {
    if let Ok(millis) = text.parse() {
        return Ok(Timestamp::from_millis(millis));
    }
    Ok(text.parse::<Timestamp>().map_err(|error| error.operation("input"))?)
}
