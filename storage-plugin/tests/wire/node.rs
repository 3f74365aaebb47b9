//! MessagePack as a tree: what the tests look at and change in a head.

use std::fmt;

use rmp::{Marker, decode, encode};

/// One value of a head.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Node {
    Nil,
    Bool(bool),
    Integer(i128),
    Text(String),
    Array(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Which of the encodings that mean the same.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Width {
    /// The shortest, which is what this crate writes.
    Shortest,
    /// The longest.
    Longest,
}

impl Node {
    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(crate) fn parse(mut head: &[u8]) -> Self {
        let node = Self::read(&mut head);
        assert!(head.is_empty(), "{} bytes follow", head.len());
        node
    }

    fn read(head: &mut &[u8]) -> Self {
        match Marker::from_u8(head[0]) {
            Marker::Null => decode::read_nil(head).map(|()| Self::Nil).unwrap(),
            Marker::True | Marker::False => Self::Bool(decode::read_bool(head).unwrap()),
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => {
                let len = decode::read_str_len(head).unwrap() as usize;
                let (text, rest) = head.split_at(len);
                *head = rest;
                Self::Text(String::from_utf8(text.to_vec()).unwrap())
            }
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                let len = decode::read_array_len(head).unwrap();
                Self::Array((0..len).map(|_| Self::read(head)).collect())
            }
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => {
                let len = decode::read_map_len(head).unwrap();
                Self::Map((0..len).map(|_| (Self::read(head).into_text(), Self::read(head))).collect())
            }
            _ => Self::Integer(decode::read_int(head).unwrap()),
        }
    }

    fn into_text(self) -> String {
        let Self::Text(text) = self else { panic!("{self:?} is no text") };
        text
    }

    pub(crate) fn encode(&self, width: Width) -> Vec<u8> {
        let mut head = Vec::new();
        self.write(&mut head, width);
        head
    }

    fn write(&self, head: &mut Vec<u8>, width: Width) {
        match (self, width) {
            (Self::Nil, _) => encode::write_nil(head).unwrap(),
            (Self::Bool(value), _) => encode::write_bool(head, *value).unwrap(),
            (Self::Integer(value), Width::Shortest) => match i64::try_from(*value) {
                Ok(value) => drop(encode::write_sint(head, value).unwrap()),
                Err(_) => drop(encode::write_uint(head, u64::try_from(*value).unwrap()).unwrap()),
            },
            (Self::Integer(value), Width::Longest) => match i64::try_from(*value) {
                Ok(value) => encode::write_i64(head, value).unwrap(),
                Err(_) => encode::write_u64(head, u64::try_from(*value).unwrap()).unwrap(),
            },
            (Self::Text(text), Width::Shortest) => encode::write_str(head, text).unwrap(),
            (Self::Text(text), Width::Longest) => {
                head.push(Marker::Str32.to_u8());
                head.extend((text.len() as u32).to_be_bytes());
                head.extend(text.as_bytes());
            }
            (Self::Array(items), _) => {
                match width {
                    Width::Shortest => drop(encode::write_array_len(head, items.len() as u32).unwrap()),
                    Width::Longest => {
                        head.push(Marker::Array32.to_u8());
                        head.extend((items.len() as u32).to_be_bytes());
                    }
                }
                items.iter().for_each(|item| item.write(head, width));
            }
            (Self::Map(pairs), _) => {
                match width {
                    Width::Shortest => drop(encode::write_map_len(head, pairs.len() as u32).unwrap()),
                    Width::Longest => {
                        head.push(Marker::Map32.to_u8());
                        head.extend((pairs.len() as u32).to_be_bytes());
                    }
                }
                for (key, value) in pairs {
                    Self::text(key).write(head, width);
                    value.write(head, width);
                }
            }
        }
    }
}

impl fmt::Display for Node {
    /// As JSON, which reads well.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Array(items) => {
                let items: Vec<String> = items.iter().map(Self::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
            Self::Map(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}: {value}")).collect();
                write!(f, "{{{}}}", pairs.join(", "))
            }
        }
    }
}
