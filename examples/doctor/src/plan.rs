//! A test plan: its groups of threads, its data sets, and its requests with what is in their scope.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use crate::expression::{self, Reference};
use crate::feed::Reading;
use crate::input::Unreadable;
use crate::tree::{self, Node, Property};

/// A group of threads.
#[derive(Debug, Clone, Default)]
pub(crate) struct Threads {
    pub(crate) name: String,
    pub(crate) line: u64,
    pub(crate) count: Option<u64>,
    /// Most threads that start within a second, where there is more than one.
    pub(crate) at_once: Option<u64>,
    /// None without end.
    pub(crate) loops: Option<u64>,
    pub(crate) setup: bool,
    /// Whether a step that failed is followed by no other of its loop.
    pub(crate) stops: bool,
}

/// Who reads which row of a data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    All,
    Group,
    Thread,
    Key,
}

/// A CSV Data Set.
#[derive(Debug, Clone)]
pub(crate) struct DataSet {
    pub(crate) line: u64,
    pub(crate) name: String,
    pub(crate) filename: String,
    pub(crate) reading: Reading,
    pub(crate) recycle: bool,
    pub(crate) stop_thread: bool,
    pub(crate) share: Share,
}

/// A header that is sent.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) line: u64,
}

/// An HTTP request of the plan.
#[derive(Debug, Clone)]
pub(crate) struct Sampler<'a> {
    pub(crate) node: &'a Node,
    pub(crate) group: Option<usize>,
    pub(crate) headers: Vec<Header>,
    pub(crate) data_sets: Vec<usize>,
    /// From itself or its defaults.
    pub(crate) domain: String,
    pub(crate) protocol: String,
    pub(crate) port: String,
    pub(crate) path: String,
    /// How often a loop of its thread sends it; None where a controller decides.
    pub(crate) weight: Option<u64>,
    /// Whether each thread sends it in its first loop only.
    pub(crate) once: bool,
    /// Whether it is not sent once there are no more rows.
    pub(crate) guarded: bool,
    /// Whether it is sent only where a module of the plan includes it, with what is in scope there.
    pub(crate) fragment: bool,
    /// What is in scope and sends more: a manager of authorizations, cookies, or a script.
    pub(crate) authorized_otherwise: bool,
}

/// Everything of a plan that the rules look at.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    roots: Vec<Node>,
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) defined: BTreeSet<String>,
    /// What is set while the test runs: by data sets, extractors, counters.
    pub(crate) assigned: BTreeSet<String>,
    /// A script or an element of a plugin may define more.
    pub(crate) opaque: bool,
    pub(crate) groups: Vec<Threads>,
    pub(crate) data_sets: Vec<DataSet>,
}

fn enabled(roots: &[Node]) -> Vec<&Node> {
    let mut nodes = Vec::new();
    for root in roots.iter().filter(|root| root.enabled && root.short() != "WorkBench") {
        root.all(&mut nodes);
    }
    nodes
}

impl Plan {
    /// Reads a plan.
    pub(crate) fn read(input: impl Read) -> Result<Self, Unreadable> {
        let roots = tree::read(input)?;
        let mut plan = Self::default();
        let nodes = enabled(&roots);
        for node in &nodes {
            plan.define(node);
        }
        for node in &nodes {
            if is_group(node) {
                plan.groups.push(threads(node, &plan.variables));
            }
            if node.short() == "CSVDataSet" {
                plan.data_sets.push(data_set(node));
            }
        }
        plan.roots = roots;
        plan.defined.extend(plan.assigned.iter().cloned());
        plan.read_in_paths();
        Ok(plan)
    }

    /// All elements that are enabled, below what is enabled.
    pub(crate) fn nodes(&self) -> Vec<&Node> {
        enabled(&self.roots)
    }

    /// What this element defines, as far as it can be seen.
    fn define(&mut self, node: &Node) {
        let arguments = |property: Option<&Property>| property.map(|p| p.inner.clone()).unwrap_or_default();
        let tables = match node.short() {
            "TestPlan" => node.property("TestPlan.user_defined_variables").map(|p| arguments(p.inner.first())),
            "Arguments" => Some(arguments(node.property("Arguments.arguments"))),
            _ => None,
        };
        for argument in tables.into_iter().flatten() {
            let name = argument.get("Argument.name").unwrap_or(&argument.name).to_owned();
            let value = argument.get("Argument.value").unwrap_or_default().to_owned();
            self.defined.insert(name.clone());
            self.variables.insert(name, value);
        }
        let one = |name: &str| node.get(name).split([',', ';']).map(|n| n.trim().to_owned()).collect::<Vec<_>>();
        let names: Vec<String> = match node.short() {
            "CSVDataSet" => {
                self.opaque |= node.get("variableNames").is_empty();
                one("variableNames")
            }
            "RegexExtractor" => one("RegexExtractor.refname"),
            "JSONPostProcessor" => one("JSONPostProcessor.referenceNames"),
            "JMESPathExtractor" => one("JMESExtractor.referenceName"),
            "BoundaryExtractor" => one("BoundaryExtractor.refname"),
            "HtmlExtractor" => one("HtmlExtractor.refname"),
            "XPathExtractor" => one("XPathExtractor.refname"),
            "XPath2Extractor" => one("XPathExtractor2.refname"),
            "CounterConfig" => one("CounterConfig.name"),
            "RandomVariableConfig" => one("variableName"),
            "ForeachController" => one("ForeachController.returnVal"),
            "UserParameters" => {
                let names = node.property("UserParameters.names").map(|names| &names.inner);
                names.into_iter().flatten().map(|name| name.value.trim().to_owned()).collect()
            }
            _ => Vec::new(),
        };
        self.assigned.extend(names.into_iter().filter(|name| !name.is_empty()));
        self.opaque |= may_define(node);
        // Functions that also set a variable name it last.
        node.texts(|property| {
            for reference in expression::references(&property.value) {
                if let Reference::Function { arguments, .. } = reference
                    && let Some(last) = arguments.last()
                {
                    self.assigned.insert(last.trim().to_owned());
                }
            }
        });
    }

    /// Which variables of data sets stand in paths.
    fn read_in_paths(&mut self) {
        let mut in_path = BTreeSet::new();
        let mut encoded = BTreeSet::new();
        for node in self.nodes() {
            if !is_http(node) {
                continue;
            }
            // In a query a slash is no slash.
            let path = before_query(node.get("HTTPSampler.path"));
            let outer = strip_encoding(path);
            for reference in expression::references(path) {
                if let Reference::Variable(name) = reference {
                    let plain = expression::references(&outer).contains(&Reference::Variable(name.clone()));
                    if plain { &mut in_path } else { &mut encoded }.insert(name);
                }
            }
        }
        let used = self.used();
        for set in &mut self.data_sets {
            set.reading.used.clone_from(&used);
            set.reading.in_path = in_path.iter().cloned().collect();
            set.reading.encoded = encoded.iter().cloned().collect();
        }
    }

    /// The words of all references, scripts and controllers: a variable that is none of them is used nowhere. None of them where there
    /// is more than was given.
    fn used(&self) -> BTreeSet<String> {
        let mut words = BTreeSet::new();
        for node in self.nodes().into_iter().filter(|node| node.short() != "CSVDataSet") {
            if node.short() == "IncludeController" || is_foreign(node) {
                return BTreeSet::new();
            }
            let names = may_define(node) || node.short().ends_with("Controller");
            node.texts(|property| {
                if names || property.name.ends_with("variable") {
                    words.extend(words_of(&property.value));
                }
                for reference in expression::references(&property.value) {
                    match reference {
                        Reference::Variable(name) => words.extend([name]),
                        Reference::Function { arguments, .. } => {
                            words.extend(arguments.iter().flat_map(|a| words_of(a)))
                        }
                    }
                }
            });
        }
        words
    }

    /// The HTTP requests with what is in their scope, and how often a loop of a thread reads a row of each data set.
    pub(crate) fn samplers(&self) -> (Vec<Sampler<'_>>, Vec<Option<u64>>) {
        let reads = vec![Some(1); self.data_sets.len()];
        let mut walk = Walk { plan: self, samplers: Vec::new(), reads, groups: 0 };
        for root in self.roots.iter().filter(|root| root.enabled && root.short() != "WorkBench") {
            let scope = Scope { weight: Some(1), ..Scope::default() };
            let siblings: Vec<&Node> = vec![root];
            walk.level(&siblings, &scope);
        }
        (walk.samplers, walk.reads)
    }
}

#[derive(Debug, Clone, Default)]
struct Scope<'a> {
    headers: Vec<&'a Node>,
    defaults: Vec<&'a Node>,
    data_sets: Vec<usize>,
    group: Option<usize>,
    weight: Option<u64>,
    once: bool,
    guarded: bool,
    fragment: bool,
    authorized_otherwise: bool,
}

struct Walk<'a> {
    plan: &'a Plan,
    samplers: Vec<Sampler<'a>>,
    reads: Vec<Option<u64>>,
    groups: usize,
}

impl<'a> Walk<'a> {
    /// The elements of one level: what configures is in scope of all of them.
    fn level(&mut self, nodes: &[&'a Node], scope: &Scope<'a>) {
        let mut scope = scope.clone();
        for node in nodes {
            match node.short() {
                "HeaderManager" => scope.headers.push(node),
                "AuthManager" | "CookieManager" => scope.authorized_otherwise = true,
                "ConfigTestElement" => scope.defaults.push(node),
                "CSVDataSet" => {
                    let same = |set: &DataSet| {
                        set.line == node.line && set.name == node.name && set.filename == node.get("filename")
                    };
                    let set = self.plan.data_sets.iter().position(same);
                    // A row is read whenever what the data set stands in begins anew.
                    if let Some(reads) = set.and_then(|set| self.reads.get_mut(set)) {
                        *reads = if scope.once { None } else { scope.weight };
                    }
                    scope.data_sets.extend(set);
                }
                _ => scope.authorized_otherwise |= may_define(node),
            }
        }
        for node in nodes {
            let mut inner = scope.clone();
            if is_group(node) {
                inner.group = Some(self.groups);
                self.groups += 1;
            }
            self.controller(node, &mut inner);
            let below: Vec<&Node> = node.below().collect();
            if is_http(node) {
                let sampler = self.sampler(node, &below, &inner);
                self.samplers.push(sampler);
            } else {
                self.level(&below, &inner);
            }
        }
    }

    /// How often what is below it is sent.
    fn controller(&self, node: &Node, inner: &mut Scope<'a>) {
        match node.short() {
            "LoopController" => {
                let loops = number(node.get("LoopController.loops"), &self.plan.variables).map(|(n, _)| n);
                inner.weight = inner.weight.zip(loops).map(|(weight, loops)| weight.saturating_mul(loops));
            }
            "OnceOnlyController" => {
                inner.once = true;
                inner.weight = inner.weight.map(|_| 1);
            }
            "TestFragmentController" => {
                inner.fragment = true;
                inner.authorized_otherwise = true;
            }
            "TestPlan"
            | "GenericController"
            | "TransactionController"
            | "RandomOrderController"
            | "CriticalSectionController"
            | "RecordingController" => {}
            _ if is_group(node) || is_http(node) => {}
            // A condition, a share, one of several, or a plugin's own idea.
            _ => {
                inner.weight = None;
                let condition = ["IfController.condition", "WhileController.condition"].map(|name| node.get(name));
                inner.guarded |= condition.iter().any(|condition| condition.contains("EOF"));
            }
        }
    }

    fn sampler(&self, node: &'a Node, below: &[&'a Node], scope: &Scope<'a>) -> Sampler<'a> {
        let mut managers = scope.headers.clone();
        managers.extend(below.iter().filter(|node| node.short() == "HeaderManager"));
        let mut headers: Vec<Header> = Vec::new();
        for manager in managers {
            let of = headers_of(manager);
            // The nearest manager wins, name by name.
            headers.retain(|header| !of.iter().any(|other| other.name.eq_ignore_ascii_case(&header.name)));
            headers.extend(of);
        }
        let own = |name: &str| {
            let defaults = scope.defaults.iter().rev().map(|defaults| defaults.get(name));
            std::iter::once(node.get(name))
                .chain(defaults)
                .find(|value| !value.is_empty())
                .unwrap_or_default()
                .to_owned()
        };
        Sampler {
            node,
            group: scope.group,
            headers,
            data_sets: scope.data_sets.clone(),
            domain: own("HTTPSampler.domain"),
            protocol: own("HTTPSampler.protocol"),
            port: own("HTTPSampler.port"),
            path: own("HTTPSampler.path"),
            weight: scope.weight,
            once: scope.once,
            guarded: scope.guarded,
            fragment: scope.fragment,
            authorized_otherwise: scope.authorized_otherwise || below.iter().any(|node| may_define(node)),
        }
    }
}

/// The headers of a Header Manager.
pub(crate) fn headers_of(node: &Node) -> Vec<Header> {
    let rows = node.property("HeaderManager.headers").map(|rows| rows.inner.as_slice()).unwrap_or_default();
    rows.iter()
        .map(|row| Header {
            // With its blanks, which are sent.
            name: row.inner.iter().find(|p| p.name == "Header.name").map(|p| p.value.clone()).unwrap_or_default(),
            value: row.get("Header.value").unwrap_or_default().to_owned(),
            line: row.line,
        })
        .collect()
}

/// An HTTP request.
pub(crate) fn is_http(node: &Node) -> bool {
    matches!(node.short(), "HTTPSamplerProxy" | "HTTPSampler" | "HTTPSampler2" | "HTTPSampler3" | "AjpSampler")
}

/// A group of threads, of JMeter's own or of a plugin.
pub(crate) fn is_group(node: &Node) -> bool {
    node.short().ends_with("ThreadGroup") || node.short() == "Arrivals"
}

/// An element of a plugin.
fn is_foreign(node: &Node) -> bool {
    node.class.contains('.') && !node.class.starts_with("org.apache.jmeter") && !is_group(node)
}

/// A script, or an element of a plugin: it may set variables and headers.
fn may_define(node: &Node) -> bool {
    let short = node.short();
    ["JSR223", "BeanShell", "BSF", "JDBC", "Include", "Module"].iter().any(|word| short.starts_with(word))
        || is_foreign(node)
}

/// What may be names of variables in a text.
fn words_of(text: &str) -> impl Iterator<Item = String> {
    let parts = text.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')));
    parts.filter(|part| !part.is_empty()).map(str::to_owned)
}

/// A path without its query; a question mark within a reference begins none.
fn before_query(path: &str) -> &str {
    let mut depth = 0_usize;
    let end = path.char_indices().find(|(_, c)| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        *c == '?' && depth == 0
    });
    path.get(..end.map_or(path.len(), |(at, _)| at)).unwrap_or(path)
}

/// A path without what is encoded in it.
fn strip_encoding(path: &str) -> String {
    let mut out = path.to_owned();
    for function in ["${__urlencode(", "${__escapeHtml("] {
        while let Some(at) = out.find(function) {
            let end = out.get(at..).and_then(|rest| rest.find(")}")).map_or(out.len(), |end| at + end + 2);
            out.replace_range(at..end, "");
        }
    }
    out
}

/// A number before the test runs, and whether it is a property's default.
pub(crate) fn number(text: &str, variables: &BTreeMap<String, String>) -> Option<(u64, bool)> {
    let (value, default) = expression::value(text, variables)?;
    let value = value.trim();
    value
        .parse::<u64>()
        .ok()
        .or_else(|| value.parse::<f64>().ok().filter(|n| *n >= 0.0).map(|n| n as u64))
        .map(|n| (n, default))
}

/// Threads that start together: within a second.
fn at_once(threads: u64, ramp: u64) -> u64 {
    if ramp <= 1 { threads } else { 0 }
}

fn threads(node: &Node, variables: &BTreeMap<String, String>) -> Threads {
    let of = |name: &str| number(node.get(name), variables);
    let mut group = Threads { name: node.name.clone(), line: node.line, ..Threads::default() };
    group.setup = node.short() == "SetupThreadGroup";
    group.stops = !matches!(node.get("ThreadGroup.on_sample_error"), "" | "continue");
    match node.short() {
        "ThreadGroup" | "SetupThreadGroup" | "PostThreadGroup" => {
            group.count = of("ThreadGroup.num_threads").map(|(n, _)| n);
            group.at_once = group.count.zip(of("ThreadGroup.ramp_time")).map(|(n, (ramp, _))| at_once(n, ramp));
            let main = node.property("ThreadGroup.main_controller");
            let loops = main.and_then(|main| main.get("LoopController.loops")).unwrap_or("1");
            let forever = main.and_then(|main| main.get("LoopController.continue_forever")) == Some("true");
            group.loops = if loops == "-1" || (forever && loops.is_empty()) {
                None
            } else {
                number(loops, variables).map(|(n, _)| n)
            };
        }
        "UltimateThreadGroup" => {
            let rows = node.property("ultimatethreadgroupdata").map(|rows| rows.inner.as_slice()).unwrap_or_default();
            let rows: Vec<Vec<u64>> = rows
                .iter()
                .map(|row| row.inner.iter().map(|cell| number(&cell.value, variables).map_or(0, |(n, _)| n)).collect())
                .collect();
            let at = |row: &Vec<u64>, i: usize| row.get(i).copied().unwrap_or_default();
            group.count = (!rows.is_empty()).then(|| rows.iter().map(|row| at(row, 0)).fold(0, u64::saturating_add));
            // Those of one delay begin together.
            let mut together: BTreeMap<u64, u64> = BTreeMap::new();
            for row in &rows {
                let n = together.entry(at(row, 1)).or_default();
                *n = n.saturating_add(at_once(at(row, 0), at(row, 2)));
            }
            group.at_once = together.into_values().max();
        }
        // So many that come in a minute, or a second, of whom nobody knows how many there are at once.
        "ArrivalsThreadGroup" => {
            let unit = if node.get("Unit") == "S" { 1 } else { 60 };
            group.at_once = of("TargetLevel").map(|(n, _)| n / unit);
        }
        "ConcurrencyThreadGroup" => {
            let unit = if node.get("Unit") == "S" { 1 } else { 60 };
            group.count = of("TargetLevel").map(|(n, _)| n);
            let ramp = of("RampUp").map_or(0, |(n, _)| n.saturating_mul(unit));
            let steps = of("Steps").map_or(0, |(n, _)| n);
            let one = |n: u64| if ramp > 1 && steps > 0 { n.div_ceil(steps) } else { at_once(n, ramp) };
            group.at_once = group.count.map(one);
        }
        "SteppingThreadGroup" => {
            group.count = of("ThreadGroup.num_threads").map(|(n, _)| n);
            let ramp = of("rampUp").map_or(0, |(n, _)| n);
            let first = of("Start users count burst").map_or(0, |(n, _)| n);
            group.at_once = of("Start users count").map(|(n, _)| at_once(n, ramp).max(first));
        }
        _ => {}
    }
    group
}

fn data_set(node: &Node) -> DataSet {
    let share = node.get("shareMode").to_lowercase();
    let variables = node.get("variableNames");
    let delimiter = node.property("delimiter").map_or(",", |p| p.value.as_str()).to_owned();
    DataSet {
        line: node.line,
        name: node.name.clone(),
        filename: node.get("filename").to_owned(),
        reading: Reading {
            variables: variables.split([',']).map(|n| n.trim().to_owned()).filter(|n| !n.is_empty()).collect(),
            delimiter,
            ignore_first_line: node.is("ignoreFirstLine"),
            quoted: node.is("quotedData"),
            known: true,
            ..Reading::default()
        },
        recycle: node.get("recycle") != "false",
        stop_thread: node.is("stopThread"),
        share: if share.is_empty() || share.ends_with("all") || share.contains("all threads") {
            Share::All
        } else if share.contains("group") {
            Share::Group
        } else if share.contains("thread") {
            Share::Thread
        } else {
            Share::Key
        },
    }
}
