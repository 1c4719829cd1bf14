//! XML as JMeter writes it: predefined entities and characters by number, nothing else.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use crate::input::{Bounded, ENTITY, Lines, Unreadable};

/// An element may be so long; a response that was saved is in one.
const LONGEST: u64 = 32 << 20;
const DEEPEST: usize = 256;
const BEHIND: &str = "it is cut within a tag, and another document follows in it: split the file where that begins";

/// What a document consists of, in order.
#[derive(Debug)]
pub(crate) enum Part {
    /// An element begins.
    Begin { tag: String, attributes: Vec<(String, String)> },
    /// Its text, or a piece of it.
    Text(String),
    /// It ends.
    End,
    /// The document begins.
    Declaration,
    /// Nothing follows. False if elements are still open: the file is cut.
    Done { whole: bool },
}

/// Reads a document part by part.
pub(crate) struct Xml<R: Read> {
    reader: Reader<Lines<Bounded<R>>>,
    used: Rc<Cell<u64>>,
    buffer: Vec<u8>,
    depth: usize,
    /// An empty element has begun, and ends next.
    empty: bool,
}

impl<R: Read> Xml<R> {
    pub(crate) fn new(input: R) -> Self {
        let used = Rc::new(Cell::new(0));
        let input = Bounded::new(input, LONGEST, "an element of more than 32 MiB", &used);
        let mut reader = Reader::from_reader(Lines::new(input));
        reader.config_mut().trim_text(false);
        Self { reader, used, buffer: Vec::new(), depth: 0, empty: false }
    }

    /// The line that was read to.
    pub(crate) fn line(&self) -> u64 {
        self.reader.get_ref().line()
    }

    /// The next part.
    pub(crate) fn next(&mut self) -> Result<Part, Unreadable> {
        if std::mem::take(&mut self.empty) {
            return Ok(Part::End);
        }
        loop {
            self.buffer.clear();
            self.used.set(0);
            let before = self.line();
            let event = self.reader.read_event_into(&mut self.buffer);
            let line = self.reader.get_ref().line();
            let part = match event {
                Ok(Event::Start(start)) => {
                    self.depth += 1;
                    if self.depth > DEEPEST {
                        return Err(Unreadable::new(line, "elements nested more than 256 deep"));
                    }
                    begin(&start, line)?
                }
                Ok(Event::Empty(start)) => {
                    self.empty = true;
                    begin(&start, line)?
                }
                Ok(Event::End(_)) => {
                    self.depth = self.depth.saturating_sub(1);
                    Part::End
                }
                Ok(Event::Text(text)) => Part::Text(String::from_utf8_lossy(&text).into_owned()),
                Ok(Event::CData(text)) => Part::Text(String::from_utf8_lossy(&text).into_owned()),
                Ok(Event::GeneralRef(reference)) => Part::Text(resolve(&reference, line)?.to_string()),
                Ok(Event::DocType(text)) if contains(&text, b"<!ENTITY") => {
                    return Err(Unreadable::new(before, ENTITY));
                }
                Ok(Event::Decl(_)) => Part::Declaration,
                Ok(Event::Comment(_) | Event::PI(_) | Event::DocType(_)) => continue,
                Ok(Event::Eof) => Part::Done { whole: self.depth == 0 },
                Err(error) => return self.ended(&error, before),
            };
            return Ok(part);
        }
    }

    /// What comes of an error in the text from this line on.
    fn ended(&self, error: &quick_xml::Error, before: u64) -> Result<Part, Unreadable> {
        match error {
            // Of a tag that is cut within a value what follows is taken for its values, to the end of the file.
            quick_xml::Error::Syntax(_) if contains(&self.buffer, b"<?xml") => Err(Unreadable::new(before, BEHIND)),
            // Cut within a tag, or a text that does not end.
            quick_xml::Error::Syntax(_) => Ok(Part::Done { whole: false }),
            _ => Err(Unreadable::new(self.line(), error.to_string())),
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn begin(start: &BytesStart<'_>, line: u64) -> Result<Part, Unreadable> {
    let tag = String::from_utf8_lossy(start.name().as_ref()).into_owned();
    let mut attributes = Vec::new();
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| Unreadable::new(line, format!("in <{tag}>: {error}")))?;
        let name = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
        attributes.push((name, unescaped(&String::from_utf8_lossy(&attribute.value), line)?));
    }
    Ok(Part::Begin { tag, attributes })
}

/// The text of an attribute.
fn unescaped(text: &str, line: u64) -> Result<String, Unreadable> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let Some((name, after)) = after.split_once(';') else {
            out.push('&');
            rest = after;
            continue;
        };
        out.push(resolve(&BytesRef::new(name), line)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// JMeter writes characters by number that XML forbids, such as `&#x0;`, and reads them: so does this.
fn resolve(reference: &BytesRef<'_>, line: u64) -> Result<char, Unreadable> {
    let name = String::from_utf8_lossy(reference);
    let number = |text: &str, radix| {
        let c = u32::from_str_radix(text, radix).ok().and_then(char::from_u32);
        c.ok_or_else(|| Unreadable::new(line, format!("&{name}; is no character")))
    };
    if let Some(hex) = name.strip_prefix("#x").or_else(|| name.strip_prefix("#X")) {
        return number(hex, 16);
    }
    if let Some(decimal) = name.strip_prefix('#') {
        return number(decimal, 10);
    }
    Ok(match &*name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        _ => {
            let name = crate::text::shown(&name);
            return Err(Unreadable::new(
                line,
                format!("the entity &{name}; is not known, and entities are not expanded"),
            ));
        }
    })
}
