//! YAML as a tree in which every value and every key knows where it was written.
//!
//! Two readers share the work: `serde_yaml` says what the values are, `saphyr-parser` where they stand. The second one
//! comes first and refuses what a topology has no use for and an attacker has: depth, bombs of aliases, duplicate keys.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, Span};
use serde_yaml::{Number, Value};

use crate::source::Place;

/// Deeper nesting is refused.
const MAX_DEPTH: usize = 24;
/// More values, aliases expanded, are refused. 64 bytes of text count as one more.
const MAX_VALUES: usize = 200_000;

/// A value and its place.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) content: Content,
    /// Of a scalar its text; of a map or list the key it belongs to, where there is one.
    pub(crate) place: Place,
}

/// What a value is.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Nothing,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// A key of a map and its place.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) place: Place,
}

/// Why a text is no tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct SyntaxError {
    pub(crate) place: Place,
    pub(crate) message: String,
}

impl Node {
    /// Reads a whole file.
    pub(crate) fn read(text: &str) -> Result<Node, SyntaxError> {
        let spans = SpanReader::new(text).document()?;
        let value: Value = serde_yaml::from_str(text).map_err(|error| {
            let place = error.location().map_or(Place::Whole, |at| place(at.line(), at.column(), 1));
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default().to_owned();
            SyntaxError { place, message }
        })?;
        Ok(join(value, Some(&spans), spans.place))
    }

    /// Reads the value of a setting; all of it stands at `place`.
    pub(crate) fn read_setting(text: &str, place: Place) -> Result<Node, SyntaxError> {
        SpanReader::new(text).document().map_err(|error| SyntaxError { place, ..error })?;
        let value = serde_yaml::from_str(text)
            .map_err(|error| SyntaxError { place, message: format!("not a YAML value: {error}") })?;
        Ok(join(value, None, place))
    }
}

/// Where the parts of a value stand.
#[derive(Clone, Debug)]
struct Spans {
    place: Place,
    parts: Parts,
    /// Values in it, itself counted.
    count: usize,
}

#[derive(Clone, Debug)]
enum Parts {
    None,
    List(Vec<Spans>),
    Map(Vec<(Place, Spans)>),
}

fn join(value: Value, spans: Option<&Spans>, fallback: Place) -> Node {
    let place = spans.map_or(fallback, |spans| spans.place);
    let content = match value {
        Value::Null => Content::Nothing,
        Value::Bool(value) => Content::Bool(value),
        Value::Number(value) => Content::Number(value),
        Value::String(value) => Content::Text(value),
        Value::Tagged(tagged) => return join(tagged.value, spans, fallback),
        Value::Sequence(values) => {
            let parts = match spans.map(|spans| &spans.parts) {
                Some(Parts::List(parts)) => parts.as_slice(),
                _ => &[],
            };
            let values = values.into_iter().enumerate();
            Content::List(values.map(|(index, value)| join(value, parts.get(index), place)).collect())
        }
        Value::Mapping(entries) => {
            let parts = match spans.map(|spans| &spans.parts) {
                Some(Parts::Map(parts)) => parts.as_slice(),
                _ => &[],
            };
            let mut map = Vec::with_capacity(entries.len());
            for (index, (key, value)) in entries.into_iter().enumerate() {
                let key_place = parts.get(index).map_or(place, |(place, _)| *place);
                let name = scalar_text(&key);
                map.push((Key { name, place: key_place }, join(value, parts.get(index).map(|(_, part)| part), place)));
            }
            Content::Map(map)
        }
    };
    Node { content, place }
}

fn scalar_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        _ => String::new(),
    }
}

struct SpanReader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: BTreeMap<usize, Spans>,
    count: usize,
}

impl<'a> SpanReader<'a> {
    fn new(text: &'a str) -> Self {
        SpanReader { parser: Parser::new_from_str(text), anchors: BTreeMap::new(), count: 0 }
    }

    fn document(mut self) -> Result<Spans, SyntaxError> {
        self.next()?;
        let empty = || SyntaxError { place: Place::Whole, message: "there is nothing in it".to_owned() };
        if let (Event::StreamEnd, _) = self.next()? {
            return Err(empty());
        }
        let (event, span) = self.next()?;
        let spans = self.value(event, span, None, 0)?;
        self.next()?;
        match self.next()? {
            (Event::StreamEnd, _) => Ok(spans),
            (_, span) => Err(SyntaxError {
                place: marked(span.start, 3),
                message: "a second document begins here; a topology is one document".to_owned(),
            }),
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), SyntaxError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                Err(SyntaxError { place: marked(*error.marker(), 1), message: error.info().to_owned() })
            }
            None => Err(SyntaxError { place: Place::Whole, message: "the text ends too early".to_owned() }),
        }
    }

    /// Reads one value, `event` being its first event. `key` is where its key stands, if it has one.
    fn value(&mut self, event: Event<'a>, span: Span, key: Option<Place>, depth: usize) -> Result<Spans, SyntaxError> {
        let place = word(span);
        self.count += 1;
        if self.count > MAX_VALUES {
            return Err(SyntaxError { place, message: format!("more than {MAX_VALUES} values") });
        }
        if depth > MAX_DEPTH {
            return Err(SyntaxError { place, message: format!("nested deeper than {MAX_DEPTH} levels") });
        }
        let before = self.count;
        let collection_place = key.unwrap_or(marked(span.start, 1));
        let (anchor, place, parts) = match event {
            Event::Alias(id) => {
                // An alias inside its own anchor has no tree yet.
                let Some(spans) = self.anchors.get(&id) else {
                    return Err(SyntaxError { place, message: "the alias refers to itself".to_owned() });
                };
                self.count += spans.count;
                if self.count > MAX_VALUES {
                    return Err(SyntaxError { place, message: format!("more than {MAX_VALUES} values") });
                }
                return Ok(spans.clone());
            }
            Event::Scalar(text, _, anchor, tag) => {
                no_tag(tag.is_some(), place)?;
                // A long text counts as several values, or aliases of it would fill the memory.
                self.count += text.len() / 64;
                let place = if text.is_empty() && span.is_empty() { key.unwrap_or(place) } else { place };
                (anchor, place, Parts::None)
            }
            Event::SequenceStart(anchor, tag) => {
                no_tag(tag.is_some(), place)?;
                (anchor, collection_place, Parts::List(self.list(depth)?))
            }
            Event::MappingStart(anchor, tag) => {
                no_tag(tag.is_some(), place)?;
                (anchor, collection_place, Parts::Map(self.map(depth)?))
            }
            _ => return Err(SyntaxError { place, message: "a value is missing here".to_owned() }),
        };
        let spans = Spans { place, parts, count: self.count - before + 1 };
        if anchor != 0 {
            self.anchors.insert(anchor, spans.clone());
        }
        Ok(spans)
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Spans>, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(items),
                (event, span) => items.push(self.value(event, span, None, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(Place, Spans)>, SyntaxError> {
        let mut entries = Vec::new();
        let mut lines: BTreeMap<String, usize> = BTreeMap::new();
        loop {
            let (event, span) = self.next()?;
            let name = match event {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(name, _, _, tag) => {
                    no_tag(tag.is_some(), word(span))?;
                    name.into_owned()
                }
                _ => {
                    return Err(SyntaxError {
                        place: marked(span.start, 1),
                        message: "a key must be a plain word, not a list, a map or an alias".to_owned(),
                    });
                }
            };
            let key = word(span);
            if let Some(first) = lines.insert(name.clone(), span.start.line()) {
                let message = format!("`{name}` is given twice; the first is in line {first}");
                return Err(SyntaxError { place: key, message });
            }
            let (event, span) = self.next()?;
            entries.push((key, self.value(event, span, Some(key), depth + 1)?));
        }
    }
}

fn no_tag(has_tag: bool, place: Place) -> Result<(), SyntaxError> {
    if has_tag {
        return Err(SyntaxError { place, message: "tags (`!…`) have no meaning in a topology".to_owned() });
    }
    Ok(())
}

fn word(span: Span) -> Place {
    // Of a text over several lines the first line's beginning is enough.
    let length = if span.start.line() == span.end.line() { span.len() } else { 1 };
    marked(span.start, length.max(1))
}

fn marked(at: Marker, length: usize) -> Place {
    place(at.line(), at.col() + 1, length)
}

fn place(line: usize, column: usize, length: usize) -> Place {
    Place::File { line: line.max(1) as u32, column: column.max(1) as u32, length: length as u32 }
}
