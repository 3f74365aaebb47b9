//! A file of JSON records, one at a time: lines of JSON, or one JSON array.

use std::io::{self, BufRead, Read as _};

use storage_core::ErrorKind;

use crate::exit::Failure;
use crate::output::compact;

/// The text of a record and the line on which it begins, from 1.
pub(crate) struct Piece {
    pub(crate) line: u64,
    /// The text, or why there is none; after such a failure the next piece is whole again.
    pub(crate) text: Result<Vec<u8>, Failure>,
}

/// Splits a reader into records without holding more than one.
pub(crate) struct Splitter<R> {
    reader: R,
    /// Most bytes of a record.
    limit: usize,
    line: u64,
    shape: Shape,
}

enum Shape {
    Unknown,
    Lines,
    /// Inside an array; whether an item must come (after a comma), may come, or not.
    Array {
        after_comma: bool,
    },
    Done,
}

impl<R: BufRead> Splitter<R> {
    pub(crate) fn new(reader: R, limit: usize) -> Self {
        Self { reader, limit, line: 1, shape: Shape::Unknown }
    }

    /// The next record; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            match self.shape {
                Shape::Unknown => self.detect()?,
                Shape::Lines => return self.next_line(),
                Shape::Array { after_comma } => return self.next_item(after_comma),
                Shape::Done => return Ok(None),
            }
        }
    }

    /// Tells the shape by the first byte that is neither a byte order mark nor white space.
    fn detect(&mut self) -> io::Result<()> {
        // A mark at the very beginning; a reader may give its first bytes one by one.
        const MARK: [u8; 3] = [0xef, 0xbb, 0xbf];
        for expected in MARK {
            if self.peek()? != Some(expected) {
                break;
            }
            self.reader.consume(1);
        }
        self.shape = match self.skip_space()? {
            Some(b'[') => {
                self.reader.consume(1);
                Shape::Array { after_comma: false }
            }
            Some(_) => Shape::Lines,
            None => Shape::Done,
        };
        Ok(())
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            match self.reader.fill_buf() {
                Ok(buffer) => return Ok(buffer.first().copied()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Goes to the next byte that is not white space, and counts lines.
    fn skip_space(&mut self) -> io::Result<Option<u8>> {
        while let Some(byte) = self.peek()? {
            if !byte.is_ascii_whitespace() {
                return Ok(Some(byte));
            }
            self.line += u64::from(byte == b'\n');
            self.reader.consume(1);
        }
        Ok(None)
    }

    fn next_line(&mut self) -> io::Result<Option<Piece>> {
        loop {
            let line = self.line;
            let mut text = Vec::new();
            // Room for the line's end, and one byte that tells that the line is longer.
            let most = u64::try_from(self.limit).unwrap_or(u64::MAX).saturating_add(3);
            let read = (&mut self.reader).take(most).read_until(b'\n', &mut text)?;
            if read == 0 {
                self.shape = Shape::Done;
                return Ok(None);
            }
            self.line += 1;
            let ended = text.last() == Some(&b'\n');
            let end = text.trim_ascii_end().len();
            text.truncate(end);
            text.drain(..end - text.trim_ascii_start().len());
            if text.len() > self.limit {
                if !ended {
                    self.skip_line()?;
                }
                return Ok(Some(Piece { line, text: Err(too_long(self.limit)) }));
            }
            if !ended && read as u64 == most {
                // Only white space beyond the limit, so far.
                self.skip_line()?;
            }
            if !text.is_empty() {
                return Ok(Some(Piece { line, text: Ok(text) }));
            }
        }
    }

    fn skip_line(&mut self) -> io::Result<()> {
        self.reader.skip_until(b'\n').map(drop)
    }

    fn next_item(&mut self, after_comma: bool) -> io::Result<Option<Piece>> {
        let first = self.skip_space()?;
        let line = self.line;
        let wrong = |message: &str| Some(Piece { line, text: Err(Failure::invalid("input", message)) });
        match first {
            None => {
                self.shape = Shape::Done;
                Ok(wrong("the file ends inside the JSON array"))
            }
            Some(b']') => {
                self.reader.consume(1);
                let rest = self.skip_space()?;
                self.shape = Shape::Done;
                if rest.is_some() {
                    return Ok(wrong("something follows the end of the JSON array"));
                }
                Ok(if after_comma { wrong("a comma without an item after it") } else { None })
            }
            Some(_) => self.item(line).map(Some),
        }
    }

    /// Reads one item, up to its comma (which is taken) or the end of the array (which is not).
    fn item(&mut self, line: u64) -> io::Result<Piece> {
        let mut item = Item::default();
        loop {
            let buffer = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            if buffer.is_empty() {
                self.shape = Shape::Done;
                let text = Err(Failure::invalid("input", "the file ends inside the JSON array"));
                return Ok(Piece { line, text });
            }
            let end = item.end(buffer);
            let part = &buffer[..end.unwrap_or(buffer.len())];
            self.line += part.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
            item.keep(part, self.limit);
            let used = part.len();
            let comma = end.is_some_and(|end| buffer[end] == b',');
            self.reader.consume(used + usize::from(comma));
            if end.is_some() {
                self.shape = Shape::Array { after_comma: comma };
                let text = item.finish(self.limit);
                return Ok(Piece { line, text });
            }
        }
    }
}

/// An item of an array on its way in.
#[derive(Default)]
struct Item {
    text: Vec<u8>,
    too_long: bool,
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl Item {
    /// Where in `buffer` the comma or bracket after the item is, if it is there.
    fn end(&mut self, buffer: &[u8]) -> Option<usize> {
        for (i, &byte) in buffer.iter().enumerate() {
            if self.escaped {
                self.escaped = false;
            } else if self.in_string {
                self.escaped = byte == b'\\';
                self.in_string = byte != b'"';
            } else {
                match byte {
                    b'"' => self.in_string = true,
                    b'[' | b'{' => self.depth += 1,
                    b',' if self.depth == 0 => return Some(i),
                    b']' if self.depth == 0 => return Some(i),
                    b']' | b'}' => self.depth = self.depth.saturating_sub(1),
                    _ => {}
                }
            }
        }
        None
    }

    fn keep(&mut self, part: &[u8], limit: usize) {
        // What is set in with white space may shrink to the limit, but not from anywhere.
        if self.too_long || self.text.len() + part.len() > limit.saturating_mul(2) {
            (self.too_long, self.text) = (true, Vec::new());
        } else {
            self.text.extend_from_slice(part);
        }
    }

    fn finish(self, limit: usize) -> Result<Vec<u8>, Failure> {
        let trimmed = self.text.trim_ascii();
        let text = if trimmed.contains(&b'\n') { compact(trimmed).into() } else { trimmed.to_vec() };
        if self.too_long || text.len() > limit {
            return Err(too_long(limit));
        }
        if text.is_empty() {
            return Err(Failure::invalid("input", "a comma without an item before it"));
        }
        Ok(text)
    }
}

fn too_long(limit: usize) -> Failure {
    let message = format!("the record is longer than {limit} bytes, the limit of this backend");
    Failure::new(ErrorKind::TooLarge, "input", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: impl AsRef<[u8]>, limit: usize) -> Vec<(u64, Result<String, ErrorKind>)> {
        // Tiny buffers, so that every boundary falls between two of them.
        let mut all = Vec::new();
        for capacity in [1, 2, 3, 4096] {
            let reader = io::BufReader::with_capacity(capacity, text.as_ref());
            let mut splitter = Splitter::new(reader, limit);
            let mut pieces = Vec::new();
            while let Some(piece) = splitter.next().unwrap() {
                let text = piece.text.map(|text| String::from_utf8_lossy(&text).into_owned());
                pieces.push((piece.line, text.map_err(|failure| failure.kind())));
            }
            all.push(pieces);
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
        all.remove(0)
    }

    fn ok(line: u64, text: &str) -> (u64, Result<String, ErrorKind>) {
        (line, Ok(text.to_owned()))
    }

    const BAD: ErrorKind = ErrorKind::InvalidInput;

    #[test]
    fn lines() {
        assert_eq!(split("{}\n{\"a\":1}", 100), [ok(1, "{}"), ok(2, "{\"a\":1}")]);
        assert_eq!(split("\u{feff}\r\n\r\n  {} \r\n\n\t1\r\n", 100), [ok(3, "{}"), ok(5, "1")]);
        assert_eq!(split("", 100), []);
        assert_eq!(split("\u{feff}", 100), []);
        assert_eq!(split(" \n\n", 100), []);
    }

    #[test]
    fn long_lines_are_refused_and_the_next_one_is_read() {
        let long = (1, Err(ErrorKind::TooLarge));
        assert_eq!(split("12345\n1234\r\n6", 4), [long, ok(2, "1234"), ok(3, "6")]);
        assert_eq!(split(format!("1{}\n2", " ".repeat(50)), 4), [ok(1, "1"), ok(2, "2")]);
    }

    #[test]
    fn arrays() {
        assert_eq!(split("[]", 100), []);
        assert_eq!(
            split("[{\"a\":[1,2]},\n\"],[\\\"\",3]\n", 100),
            [ok(1, "{\"a\":[1,2]}"), ok(2, "\"],[\\\"\""), ok(2, "3")]
        );
        assert_eq!(split("\n[\n {\n  \"a\": 1\n },\n 2 ]", 100), [ok(3, "{\"a\":1}"), ok(6, "2")]);
    }

    #[test]
    fn broken_arrays() {
        assert_eq!(split("[1", 100), [(1, Err(BAD))]);
        assert_eq!(split("[1,]", 100), [ok(1, "1"), (1, Err(BAD))]);
        assert_eq!(split("[,1]", 100), [(1, Err(BAD)), ok(1, "1")]);
        assert_eq!(split("[1] 2", 100), [ok(1, "1"), (1, Err(BAD))]);
        assert_eq!(split("[12345678901,2]", 4), [(1, Err(ErrorKind::TooLarge)), ok(1, "2")]);
    }
}
