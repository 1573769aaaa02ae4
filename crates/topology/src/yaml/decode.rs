//! From the tree to the types of the specification, by serde, with the place of whatever is wrong.

use std::fmt::{self, Display};

use serde::de::value::U32Deserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::{Deserialize, Serialize, Serializer};

use super::tree::{Content, Key, Node};
use crate::source::Place;

/// Decodes a value.
pub(crate) fn decode<'a, T: Deserialize<'a>>(node: &'a Node) -> Result<T, Fault> {
    T::deserialize(Decoder(node)).map_err(|fault| fault.or_at(node.place))
}

/// Why a tree is not the type that was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Of the innermost value or key that is wrong.
    pub(crate) place: Option<Place>,
    pub(crate) reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Said(String),
    UnknownField { found: String, known: Vec<&'static str> },
    UnknownVariant { found: String, known: Vec<&'static str> },
    UnknownRole { found: String },
}

impl Fault {
    pub(crate) fn said(message: impl Into<String>) -> Fault {
        Fault { place: None, reason: Reason::Said(message.into()) }
    }

    pub(crate) fn or_at(mut self, place: Place) -> Fault {
        self.place.get_or_insert(place);
        self
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reason {
            Reason::Said(message) => f.write_str(message),
            Reason::UnknownField { found, .. } => write!(f, "unknown field `{found}`"),
            Reason::UnknownRole { found } => write!(f, "unknown role `{found}`"),
            Reason::UnknownVariant { found, known } => write!(f, "`{found}` is none of {}", listed(known)),
        }
    }
}

impl std::error::Error for Fault {}

/// ``"`a`, `b`, `c`"``.
pub(crate) fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl de::Error for Fault {
    fn custom<T: Display>(message: T) -> Self {
        Fault::said(message.to_string())
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Fault::said(format!("expected {}, found {}", wanted(&expected.to_string()), described(found)))
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(found: &str, known: &'static [&'static str]) -> Self {
        Fault { place: None, reason: Reason::UnknownVariant { found: found.to_owned(), known: known.to_vec() } }
    }

    fn unknown_field(found: &str, known: &'static [&'static str]) -> Self {
        Fault { place: None, reason: Reason::UnknownField { found: found.to_owned(), known: known.to_vec() } }
    }

    fn missing_field(field: &'static str) -> Self {
        Fault::said(format!("`{field}` is missing"))
    }
}

/// What serde says of Rust's types, in the words of a topology file.
fn wanted(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" => "a whole number, zero or more",
        "i32" | "i64" => "a whole number",
        "a string" => "a text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "variant identifier" | "a character" => "a word",
        other if other.starts_with("struct ") || other == "a map" => "a map",
        other => other,
    }
}

fn described(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(value) => format!("the number {value}"),
        Unexpected::Signed(value) => format!("the number {value}"),
        Unexpected::Float(value) => format!("the number {value}"),
        Unexpected::Str(text) => format!("the text `{text}`"),
        Unexpected::Unit | Unexpected::Option => "nothing".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a map".to_owned(),
        other => other.to_string(),
    }
}

/// A value with its place. Decodes from a tree alone; serialises and compares as the value.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) place: Place,
}

impl<T: PartialEq> PartialEq for At<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Serialize> Serialize for At<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

/// By this name of a type the decoder knows that a place is asked for. No YAML type can be called so.
const AT: &str = "\0At";

impl<'de, T: Deserialize<'de>> Deserialize<'de> for At<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AtVisitor<T>(std::marker::PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for AtVisitor<T> {
            type Value = At<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<At<T>, A::Error> {
                let absent = || de::Error::custom("a value without a place");
                let [line, column, length] = {
                    let mut part = || parts.next_element::<u32>()?.ok_or_else(absent);
                    [part()?, part()?, part()?]
                };
                let place = match (line, length) {
                    (0, 0) => Place::Whole,
                    (0, _) => Place::Setting(column),
                    _ => Place::File { line, column, length },
                };
                Ok(At { value: parts.next_element()?.ok_or_else(absent)?, place })
            }
        }

        deserializer.deserialize_tuple_struct(AT, 4, AtVisitor(std::marker::PhantomData))
    }
}

#[derive(Clone, Copy)]
struct Decoder<'a>(&'a Node);

impl<'de> Decoder<'de> {
    fn unexpected(self) -> Unexpected<'de> {
        match &self.0.content {
            Content::Nothing => Unexpected::Unit,
            Content::Bool(value) => Unexpected::Bool(*value),
            Content::Number(value) => match (value.as_u64(), value.as_i64()) {
                (Some(value), _) => Unexpected::Unsigned(value),
                (None, Some(value)) => Unexpected::Signed(value),
                (None, None) => Unexpected::Float(value.as_f64().unwrap_or(f64::NAN)),
            },
            Content::Text(text) => Unexpected::Str(text),
            Content::List(_) => Unexpected::Seq,
            Content::Map(_) => Unexpected::Map,
        }
    }
}

impl<'de> Deserializer<'de> for Decoder<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.0.content {
            Content::Nothing => visitor.visit_unit(),
            Content::Bool(value) => visitor.visit_bool(*value),
            Content::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(value), _) => visitor.visit_u64(value),
                (None, Some(value)) => visitor.visit_i64(value),
                (None, None) => visitor.visit_f64(number.as_f64().unwrap_or(f64::NAN)),
            },
            Content::Text(text) => visitor.visit_borrowed_str(text),
            Content::List(items) => visitor.visit_seq(Items(items.iter())),
            Content::Map(entries) => visitor.visit_map(Entries { rest: entries.iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.0.content {
            Content::Nothing => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == AT {
            return visitor.visit_seq(PlaceThenValue::new(self.0.place, self));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        match &self.0.content {
            Content::Text(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => Err(de::Error::invalid_type(self.unexpected(), &"a word")),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple map struct identifier ignored_any
    }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        let Some(node) = self.0.next() else { return Ok(None) };
        seed.deserialize(Decoder(node)).map(Some).map_err(|fault| fault.or_at(node.place))
    }
}

struct Entries<'a> {
    rest: std::slice::Iter<'a, (Key, Node)>,
    value: Option<&'a Node>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Fault> {
        let Some((key, value)) = self.rest.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(KeyDecoder(key)).map(Some).map_err(|fault| fault.or_at(key.place))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        let node = self.value.take().expect("serde asks for a value after its key");
        seed.deserialize(Decoder(node)).map_err(|fault| fault.or_at(node.place))
    }
}

/// A key as a text, or as a text with its place.
struct KeyDecoder<'a>(&'a Key);

impl<'de> Deserializer<'de> for KeyDecoder<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_borrowed_str(&self.0.name)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        if name == AT {
            return visitor.visit_seq(PlaceThenValue::new(self.0.place, self));
        }
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple map struct enum identifier ignored_any
    }
}

/// The place as three numbers, then the value.
struct PlaceThenValue<D> {
    numbers: std::array::IntoIter<u32, 3>,
    place: Place,
    value: Option<D>,
}

impl<D> PlaceThenValue<D> {
    fn new(place: Place, value: D) -> Self {
        let numbers = match place {
            Place::File { line, column, length } => [line, column, length],
            Place::Setting(index) => [0, index, 1],
            Place::Whole => [0, 0, 0],
        };
        PlaceThenValue { numbers: numbers.into_iter(), place, value: Some(value) }
    }
}

impl<'de, D: Deserializer<'de, Error = Fault>> SeqAccess<'de> for PlaceThenValue<D> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        if let Some(number) = self.numbers.next() {
            let number: U32Deserializer<Fault> = number.into_deserializer();
            return seed.deserialize(number).map(Some);
        }
        let Some(value) = self.value.take() else { return Ok(None) };
        seed.deserialize(value).map(Some).map_err(|fault| fault.or_at(self.place))
    }
}
