//! A test plan as the tree that it is: elements with properties, each followed by what is below it.

use std::io::Read;

use crate::input::Unreadable;
use crate::xml::{Part, Xml};

/// A property, or an element within one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Property {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) line: u64,
    pub(crate) inner: Vec<Property>,
}

impl Property {
    /// The value of the property of this name within it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.inner.iter().find(|property| property.name == name).map(|property| property.value.trim())
    }
}

/// An element of a plan.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    pub(crate) class: String,
    pub(crate) name: String,
    pub(crate) line: u64,
    pub(crate) enabled: bool,
    pub(crate) properties: Vec<Property>,
    pub(crate) children: Vec<Node>,
}

impl Node {
    /// The property of this name.
    pub(crate) fn property(&self, name: &str) -> Option<&Property> {
        self.properties.iter().find(|property| property.name == name)
    }

    /// Its value, trimmed. Empty if it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.property(name).map_or("", |property| property.value.trim())
    }

    /// Whether it is there and true.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.get(name) == "true"
    }

    /// The class without its package.
    pub(crate) fn short(&self) -> &str {
        self.class.rsplit('.').next().unwrap_or(&self.class)
    }

    /// The line of a property, or of the element.
    pub(crate) fn line_of(&self, name: &str) -> u64 {
        self.property(name).map_or(self.line, |property| property.line)
    }

    /// What is directly below it and enabled.
    pub(crate) fn below(&self) -> impl Iterator<Item = &Node> {
        self.children.iter().filter(|node| node.enabled)
    }

    /// It and all below it that is enabled.
    pub(crate) fn all<'a>(&'a self, into: &mut Vec<&'a Node>) {
        into.push(self);
        for node in self.below() {
            node.all(into);
        }
    }

    /// Every text in its properties.
    pub(crate) fn texts<'a>(&'a self, mut see: impl FnMut(&'a Property)) {
        fn walk<'a>(property: &'a Property, see: &mut impl FnMut(&'a Property)) {
            see(property);
            for inner in &property.inner {
                walk(inner, see);
            }
        }
        for property in &self.properties {
            walk(property, &mut see);
        }
    }
}

/// Reads a plan: the elements at its top.
///
/// # Errors
///
/// When it is not well-formed, is cut, or has an entity.
pub(crate) fn read(input: impl Read) -> Result<Vec<Node>, Unreadable> {
    let mut xml = Xml::new(input);
    let mut nodes = Vec::new();
    let mut rooted = false;
    loop {
        match xml.next()? {
            Part::Begin { tag, .. } if tag == "jmeterTestPlan" && !rooted => rooted = true,
            Part::Begin { tag, .. } if tag == "hashTree" => nodes.extend(hash_tree(&mut xml)?),
            Part::Begin { tag, .. } => {
                let tag = crate::text::shown(&tag);
                return Err(Unreadable::new(xml.line(), format!("<{tag}> where a test plan has a hashTree")));
            }
            Part::Done { whole: false } => return Err(cut(&xml)),
            Part::Done { .. } if nodes.is_empty() => {
                return Err(Unreadable::new(xml.line(), "a plan without elements"));
            }
            Part::Done { .. } => return Ok(nodes),
            Part::Text(_) | Part::End | Part::Declaration => {}
        }
    }
}

fn cut<R: Read>(xml: &Xml<R>) -> Unreadable {
    Unreadable::new(xml.line(), "the plan is cut: it ends within an element, and JMeter does not load it")
}

fn hash_tree<R: Read>(xml: &mut Xml<R>) -> Result<Vec<Node>, Unreadable> {
    let mut nodes: Vec<Node> = Vec::new();
    loop {
        match xml.next()? {
            Part::Begin { tag, .. } if tag == "hashTree" => {
                let children = hash_tree(xml)?;
                match nodes.last_mut() {
                    Some(node) => node.children.extend(children),
                    None => nodes.extend(children),
                }
            }
            Part::Begin { tag, attributes } => nodes.push(element(xml, tag, attributes)?),
            Part::End => return Ok(nodes),
            Part::Done { .. } => return Err(cut(xml)),
            Part::Text(_) | Part::Declaration => {}
        }
    }
}

fn element<R: Read>(xml: &mut Xml<R>, tag: String, attributes: Vec<(String, String)>) -> Result<Node, Unreadable> {
    let line = xml.line();
    let get = |name: &str| attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let mut node = Node {
        class: get("testclass").filter(|class| !class.is_empty()).unwrap_or(tag),
        name: get("testname").unwrap_or_default(),
        line,
        enabled: get("enabled").as_deref() != Some("false"),
        ..Node::default()
    };
    let whole = properties(xml)?;
    node.properties = whole.inner;
    Ok(node)
}

/// What is in an element, up to its end.
fn properties<R: Read>(xml: &mut Xml<R>) -> Result<Property, Unreadable> {
    let mut property = Property::default();
    loop {
        match xml.next()? {
            Part::Begin { tag, attributes } => {
                let line = xml.line();
                let name = attributes.into_iter().find(|(key, _)| key == "name").map(|(_, name)| name);
                let mut inner = properties(xml)?;
                inner.name = name.unwrap_or(tag);
                inner.line = line;
                property.inner.push(inner);
            }
            Part::Text(text) => property.value.push_str(&text),
            Part::End => return Ok(property),
            Part::Done { .. } => return Err(cut(xml)),
            Part::Declaration => {}
        }
    }
}
