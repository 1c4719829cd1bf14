//! The rules of plans: what makes requests fail, seen before they are sent.

use std::collections::{BTreeMap, BTreeSet};

use crate::cause::{Cause, Certainty, Finding, Level, Name};
use crate::expression::{self, Reference};
use crate::feed::Feed;
use crate::plan::{self, DataSet, Header, Plan, Sampler, Share, Threads};
use crate::signs::is_placeholder;
use crate::text::{count, many, percent, shown};
use crate::tree::Node;

/// More threads than these that start within a second are a burst.
const BURST: u64 = 50;
/// So many variables of one extractor are looked at.
const EXTRACTED: usize = 64;

/// What the rules say of a plan.
#[derive(Debug, Default)]
pub(crate) struct Ruled {
    pub(crate) findings: Vec<Finding>,
    /// What will fail, and of which share of the requests.
    pub(crate) causes: Vec<Cause>,
    /// How many requests the plan sends, where that can be known.
    pub(crate) requests: Option<u64>,
    /// The labels of requests that are never sent.
    pub(crate) never: Vec<String>,
}

/// The plan, and the data files that were given for its data sets.
pub(crate) struct Rules<'a> {
    plan: &'a Plan,
    file: &'a str,
    feeds: &'a [Option<(String, Feed)>],
    samplers: Vec<Sampler<'a>>,
    /// How often a loop of a thread reads a row of each data set.
    reads: Vec<Option<u64>>,
    /// The causes whose share has that of the request, or of the data set, that is looked at.
    counted: BTreeSet<Name>,
    out: Ruled,
}

impl<'a> Rules<'a> {
    pub(crate) fn of(plan: &'a Plan, file: &'a str, feeds: &'a [Option<(String, Feed)>]) -> Ruled {
        let (samplers, reads) = plan.samplers();
        let mut rules = Self { plan, file, feeds, samplers, reads, counted: BTreeSet::new(), out: Ruled::default() };
        rules.out.requests = rules.requests();
        rules.elements();
        rules.groups();
        rules.data_sets();
        for sampler in rules.samplers.clone() {
            rules.counted.clear();
            rules.address(&sampler);
            rules.headers(&sampler);
            rules.references(&sampler);
            rules.connection(&sampler);
        }
        rules.same_for_all();
        rules.out
    }

    fn find(&mut self, rule: &'static str, level: Level, line: u64, message: String) {
        let finding = Finding { rule, level, file: self.file.to_owned(), line, message };
        let same = |other: &Finding| other.rule == rule && other.line == line && other.message == finding.message;
        if !self.out.findings.iter().any(same) && self.out.findings.len() < 200 {
            self.out.findings.push(finding);
        }
    }

    /// A finding that is a cause of failures too.
    fn cause(&mut self, name: Name, level: Level, line: u64, share: Option<f64>, message: String) {
        self.find(name.name(), level, line, message.clone());
        let share = share.filter(|_| self.counted.insert(name));
        let certainty = if level == Level::Error { Certainty::Likely } else { Certainty::Possible };
        let evidence = format!("{}, line {line}: {message}", self.file);
        match self.out.causes.iter_mut().find(|cause| cause.name == name) {
            Some(cause) => {
                cause.certainty = cause.certainty.max(certainty);
                // Several requests: each with its part, and once.
                cause.share = share.map(|share| (share + cause.share.unwrap_or_default()).min(1.0)).or(cause.share);
                if cause.evidence.len() < 4 && !cause.evidence.contains(&evidence) {
                    cause.evidence.push(evidence);
                }
            }
            None => self.out.causes.push(Cause::new(name, certainty, share, evidence)),
        }
    }

    /// How often a request is sent, by all threads together.
    fn sent(&self, sampler: &Sampler<'_>) -> Option<u64> {
        let group = self.plan.groups.get(sampler.group?)?;
        let loops = if sampler.once { 1 } else { group.loops? };
        group.count?.checked_mul(loops)?.checked_mul(sampler.weight?)
    }

    /// What is sent in all. Of a fragment that is whatever includes it.
    fn requests(&self) -> Option<u64> {
        let includes = |node: &&Node| matches!(node.short(), "ModuleController" | "IncludeController");
        if self.plan.nodes().iter().any(includes) {
            return None;
        }
        let own = self.samplers.iter().filter(|sampler| !sampler.fragment);
        own.map(|sampler| self.sent(sampler)).try_fold(0_u64, |sum, sent| sum.checked_add(sent?))
    }

    /// The share of all requests that one sampler, or several, send.
    fn share(&self, of: impl Fn(&Sampler<'_>) -> bool) -> Option<f64> {
        let all = self.requests()?;
        let mut some = self.samplers.iter().filter(|s| of(s)).map(|s| self.sent(s));
        let some = some.try_fold(0_u64, |sum, sent| sum.checked_add(sent?))?;
        (all > 0).then(|| some as f64 / all as f64)
    }

    /// Elements by themselves.
    fn elements(&mut self) {
        for node in self.plan.nodes() {
            match node.short() {
                "HeaderManager" => self.duplicates(node),
                "IfController" => self.condition(node),
                "IncludeController" => {
                    let message = format!(
                        "the included plan {} was not given, and is not looked at",
                        shown(node.get("IncludeController.includepath"))
                    );
                    self.find("not_understood", Level::Note, node.line, message);
                }
                "CacheManager" => {
                    let message = "an HTTP Cache Manager adds If-None-Match after the first answer: a GET may become a 304 without content".to_owned();
                    self.cause(Name::NotModified, Level::Warning, node.line, None, message);
                }
                _ => {}
            }
            self.property_defaults(node);
            self.extractor(node);
            self.functions(node);
            self.unknown(node);
        }
    }

    /// Numbers that are foretold with, and may be others.
    fn property_defaults(&mut self, node: &Node) {
        let main = node.property("ThreadGroup.main_controller").and_then(|main| main.get("LoopController.loops"));
        for (text, what) in [
            (node.get("ThreadGroup.num_threads"), "thread"),
            (main.unwrap_or_default(), "loop"),
            (node.get("LoopController.loops"), "loop"),
            (node.get("TargetLevel"), "target"),
            (node.get("ThreadGroup.ramp_time"), "ramp-up"),
            (node.get("RampUp"), "ramp-up"),
        ] {
            if let Some((n, true)) = plan::number(text, &self.plan.variables) {
                let number = match what {
                    "thread" | "loop" => many(n, what, &format!("{what}s")),
                    _ => format!("a {what} of {}", count(n)),
                };
                let name = quoted(&node.name);
                let message = format!(
                    "{name} has {number} by the default of a property; another number may be given at the start (-J)"
                );
                self.find("property_default", Level::Note, node.line, message);
            }
        }
    }

    /// What is of a plugin's own is named, and nothing is concluded from what it may do.
    fn unknown(&mut self, node: &Node) {
        let known_group =
            ["UltimateThreadGroup", "ConcurrencyThreadGroup", "SteppingThreadGroup", "ArrivalsThreadGroup"];
        let foreign = node.class.contains('.') && !node.class.starts_with("org.apache.jmeter");
        if (foreign && !known_group.contains(&node.short()))
            || (plan::is_group(node) && node.short() == "OpenModelThreadGroup")
        {
            let message = format!(
                "{} is an element of a plugin, not understood: what it does is not taken into account",
                shown(&node.class)
            );
            self.find("not_understood", Level::Note, node.line, message);
        } else if node.short().starts_with("JSR223") || node.short().starts_with("BeanShell") {
            let message = format!("the script in {} is not read: it may set variables and headers", named(node));
            self.find("not_understood", Level::Note, node.line, message);
        }
    }

    fn duplicates(&mut self, node: &Node) {
        let headers = plan::headers_of(node);
        for (i, header) in headers.iter().enumerate() {
            let name = header.name.trim_end_matches(':').to_lowercase();
            let single = matches!(name.as_str(), "authorization" | "content-type" | "host" | "content-length");
            let before = headers.get(..i).unwrap_or_default();
            if single && before.iter().any(|other| other.name.eq_ignore_ascii_case(&header.name)) {
                let message = format!(
                    "{} stands twice in {}: both are sent, and a server refuses or takes the wrong one",
                    shown(&header.name),
                    named(node)
                );
                self.cause(Name::HeaderDuplicate, Level::Error, header.line, None, message);
            }
        }
    }

    fn condition(&mut self, node: &Node) {
        let text = node.get("IfController.condition");
        let line = node.line_of("IfController.condition");
        let unknown = expression::references(text).into_iter().find_map(|reference| match reference {
            Reference::Function { name, .. } if !expression::is_function(&name) => Some(name),
            _ => None,
        });
        let share = self.samplers_below(node);
        if let Some(name) = unknown {
            let message = format!(
                "{} is no function of JMeter, so the condition of {} is never true and {share} never sent",
                shown(&name),
                named(node)
            );
            self.never_runs(node);
            return self.cause(Name::NeverRuns, Level::Error, line, None, message);
        }
        let expression = node.is("IfController.useExpression");
        let scripted =
            ["__jexl", "__groovy", "__javaScript", "__BeanShell", "__isVarDefined", "__isPropDefined", "__eval"]
                .iter()
                .any(|f| text.contains(f));
        let compares = ["==", "!=", "<", ">", "&&", "||"].iter().any(|operator| text.contains(operator));
        if text.eq_ignore_ascii_case("false") {
            let message = format!("the condition of {} is false as it stands: {share} never sent", named(node));
            self.find(Name::NeverRuns.name(), Level::Note, line, message);
        } else if expression && compares && !scripted {
            let message = format!(
                "the condition of {} is compared with the word true as it stands, and never is it: {share} never sent",
                named(node)
            );
            self.never_runs(node);
            self.cause(Name::NeverRuns, Level::Error, line, None, message);
        }
    }

    /// The labels that results will not have.
    fn never_runs(&mut self, node: &Node) {
        let mut below = Vec::new();
        node.all(&mut below);
        self.out.never.extend(below.into_iter().filter(|node| plan::is_http(node)).map(|node| node.name.clone()));
    }

    fn samplers_below(&self, node: &Node) -> String {
        let mut below = Vec::new();
        node.all(&mut below);
        let n = below.iter().filter(|node| plan::is_http(node)).count() as u64;
        format!("{} below it {}", many(n, "request", "requests"), if n == 1 { "is" } else { "are" })
    }

    /// What an extractor says when it finds nothing is sent as if it were found.
    fn extractor(&mut self, node: &Node) {
        let (variables, default) = match node.short() {
            "RegexExtractor" => ("RegexExtractor.refname", "RegexExtractor.default"),
            "JSONPostProcessor" => ("JSONPostProcessor.referenceNames", "JSONPostProcessor.defaultValues"),
            "JMESPathExtractor" => ("JMESExtractor.referenceName", "JMESExtractor.defaultValue"),
            "BoundaryExtractor" => ("BoundaryExtractor.refname", "BoundaryExtractor.default"),
            "HtmlExtractor" => ("HtmlExtractor.refname", "HtmlExtractor.default"),
            "XPathExtractor" => ("XPathExtractor.refname", "XPathExtractor.default"),
            "XPath2Extractor" => ("XPathExtractor2.refname", "XPathExtractor2.default"),
            _ => return,
        };
        let (line, value) = (node.line_of(default), node.get(default));
        let names = node.get(variables).split([';', ',']).map(str::trim).filter(|name| !name.is_empty());
        let names: Vec<&str> = names.take(EXTRACTED).collect();
        // Of several variables each has its own.
        let own: Vec<&str> = if names.len() > 1 { value.split(';').take(EXTRACTED).collect() } else { vec![value] };
        for (i, name) in names.iter().enumerate() {
            self.default_of(name, own.get(i).copied().unwrap_or_default(), line);
        }
    }

    fn default_of(&mut self, name: &str, value: &str, line: u64) {
        let users: Vec<_> = self.samplers.iter().filter(|sampler| sends(sampler, name)).collect();
        let stops =
            |sampler: &&Sampler<'_>| sampler.group.and_then(|i| self.plan.groups.get(i)).is_some_and(|g| g.stops);
        if value.is_empty() {
            let message = format!(
                "the extractor of ${{{}}} has no default: when it finds nothing the value before stays, or the text ${{…}}",
                shown(name)
            );
            self.find("extractor_default", Level::Note, line, message);
        } else if !users.is_empty() {
            // A token that somebody put there is not told.
            let value = if is_placeholder(value) { shown(value) } else { String::new() };
            let (level, what) = if users.iter().all(stops) {
                (
                    Level::Note,
                    "and after a step that counts as a success that is sent as if it had been found. Check that step",
                )
            } else {
                (
                    Level::Warning,
                    "and that is sent as if it had been found: after a failed step the next ones fail too. Stop the thread on an error (on_sample_error), or check the step before",
                )
            };
            let message =
                format!("when the extractor finds nothing, ${{{}}} is its default {value}, {what}", shown(name));
            self.find("extractor_default", level, line, message);
        }
    }

    fn functions(&mut self, node: &Node) {
        if node.short() == "IfController" || node.short().starts_with("JSR223") || node.short().starts_with("BeanShell")
        {
            return;
        }
        let mut unknown = Vec::new();
        node.texts(|property| {
            for reference in expression::references(&property.value) {
                if let Reference::Function { name, .. } = reference
                    && !expression::is_function(&name)
                {
                    unknown.push((name, property.line));
                }
            }
        });
        for (name, line) in unknown {
            let message = format!(
                "${{{}}} is no function of JMeter: unless a plugin has it, it is sent as this text",
                shown(&name)
            );
            self.cause(Name::FeedPlaceholder, Level::Warning, line, None, message);
        }
    }

    fn groups(&mut self) {
        for group in &self.plan.groups {
            if let Some(n) = group.at_once.filter(|n| *n > BURST && !group.setup) {
                let message = format!(
                    "{} of the threads of {} start within a second: without a ramp-up all log in and ask at once",
                    count(n),
                    quoted(&group.name)
                );
                self.cause(Name::Burst, Level::Warning, group.line, None, message);
            }
        }
    }

    fn data_sets(&mut self) {
        for (i, set) in self.plan.data_sets.iter().enumerate() {
            self.counted.clear();
            match self.feeds.get(i).and_then(Option::as_ref) {
                Some((file, feed)) => self.fed(i, set, file, feed),
                None => {
                    let message = format!("the data file {} was not given, and is not checked", shown(&set.filename));
                    self.find("data_file", Level::Note, set.line, message);
                }
            }
        }
    }

    fn fed(&mut self, i: usize, set: &DataSet, file: &str, feed: &Feed) {
        // The same name in another folder is another file.
        if !same_file(&set.filename, file) || !file.ends_with(set.filename.trim_start_matches("./")) {
            let message = format!("{} is taken for {}", shown(file), shown(&set.filename));
            self.find("data_file", Level::Note, set.line, message);
        }
        let users: Vec<Sampler<'a>> =
            self.samplers.iter().filter(|s| s.data_sets.contains(&i) && uses_set(s, set, feed)).cloned().collect();
        let of_users = self.share(|s| users.iter().any(|user| std::ptr::eq(user.node, s.node)));
        for defect in &feed.defects {
            let rows = if defect.rows > 1 { format!(" ({})", many(defect.rows, "row", "rows")) } else { String::new() };
            let message = format!("{}{rows}", defect.message);
            let finding = Finding {
                rule: defect.name.map_or("data_file", Name::name),
                level: defect.level,
                file: file.to_owned(),
                line: defect.line,
                message: message.clone(),
            };
            self.out.findings.push(finding);
            if let Some(name) = defect.name {
                let part = if feed.rows == 0 { 1.0 } else { feed.rows_with(name) as f64 / feed.rows as f64 };
                let share = of_users.filter(|_| self.counted.insert(name)).map(|share| share * part);
                let certainty = if defect.level == Level::Error { Certainty::Likely } else { Certainty::Possible };
                let evidence = format!(
                    "{file}, line {}: {message}, {} of {} rows",
                    defect.line,
                    count(defect.rows),
                    count(feed.rows)
                );
                self.out.causes.push(Cause::new(name, certainty, share, evidence));
            }
        }
        self.exhausted(i, set, file, feed, of_users);
        self.one_row(i, set, feed);
        self.encoding(feed, &users);
    }

    /// The groups of threads with requests in scope of a data set.
    fn groups_reading(&self, i: usize) -> Vec<usize> {
        let mut groups: Vec<usize> =
            self.samplers.iter().filter(|s| s.data_sets.contains(&i)).filter_map(|s| s.group).collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// How many rows a group asks for, and how many there are for it.
    fn rows_asked(&self, group: usize, i: usize, set: &DataSet, feed: &Feed) -> Option<(u64, u64)> {
        let threads: &Threads = self.plan.groups.get(group)?;
        let reads = self.reads.get(i).copied().flatten()?;
        let (n, loops) = (threads.count?, threads.loops?.checked_mul(reads)?);
        let needed = n.checked_mul(loops)?;
        Some((
            needed,
            if set.share == Share::Thread { feed.rows.min(loops).saturating_mul(n) } else { feed.rows.min(needed) },
        ))
    }

    /// Rows that are used up some time, by who knows how many loops.
    fn uncounted(&mut self, groups: &[usize], set: &DataSet, file: &str, feed: &Feed) {
        let rows = many(feed.rows, "row", "rows");
        let message =
            format!("recycle is false, and {} has {rows}: when they are used up every variable is <EOF>", shown(file));
        let endless =
            |group: &usize| self.plan.groups.get(*group).is_some_and(|g| g.count.is_some() && g.loops.is_none());
        let guarded = self.samplers.iter().all(|sampler| sampler.guarded);
        if groups.iter().any(endless) && !set.stop_thread && !guarded {
            self.cause(
                Name::FeedExhausted,
                Level::Warning,
                set.line,
                None,
                format!("{message}, and the threads go on"),
            );
        } else {
            self.find(Name::FeedExhausted.name(), Level::Note, set.line, message);
        }
    }

    /// Fewer rows than loops, and no beginning anew.
    fn exhausted(&mut self, i: usize, set: &DataSet, file: &str, feed: &Feed, of_users: Option<f64>) {
        if feed.rows == 0 && !set.stop_thread && of_users.is_none_or(|share| share > 0.0) {
            let message = format!("{} has no row: whenever it is read every variable is <EOF>", shown(file));
            return self.runs_out(set, of_users, message);
        }
        if set.recycle {
            return;
        }
        let groups = self.groups_reading(i);
        let asked: Option<Vec<(u64, u64)>> = groups.iter().map(|group| self.rows_asked(*group, i, set, feed)).collect();
        let Some(asked) = asked.filter(|asked| !asked.is_empty()) else {
            return self.uncounted(&groups, set, file, feed);
        };
        let needed = asked.iter().map(|(needed, _)| *needed).fold(0, u64::saturating_add);
        let apart = asked.iter().map(|(_, there)| *there).fold(0, u64::saturating_add);
        let there = if set.share == Share::All { feed.rows.min(needed) } else { apart };
        let missing = needed.saturating_sub(there);
        if missing == 0 {
            return;
        }
        if set.stop_thread {
            let message = format!(
                "{} rows are asked for and {} has {}: threads end before their last loop, and {} loops are not run",
                count(needed),
                shown(file),
                count(feed.rows),
                count(missing)
            );
            return self.find("stop_thread", Level::Note, set.line, message);
        }
        let share = of_users.map(|share| share * missing as f64 / needed as f64);
        let message = format!(
            "{} rows are asked for (threads × loops) and {} has {}: {} times every variable is <EOF>",
            count(needed),
            shown(file),
            count(feed.rows),
            count(missing),
        );
        let users = || self.samplers.iter().filter(|s| s.data_sets.contains(&i) && uses_set(s, set, feed));
        match share {
            Some(share) if share > 0.0 => {
                self.runs_out(set, Some(share), format!("{message}, and {} of the requests fail", percent(share)));
            }
            None if users().any(|user| user.weight.is_some()) => self.runs_out(set, None, message),
            // A script may send it all the same.
            _ if users().all(|user| user.guarded) && (users().count() > 0 || !self.plan.opaque) => {
                self.find(Name::FeedExhausted.name(), Level::Note, set.line, format!("{message}, and none is sent so"));
            }
            _ => {
                let message = format!("{message}; whether a request is sent then is up to its controllers");
                self.cause(Name::FeedExhausted, Level::Warning, set.line, None, message);
            }
        }
    }

    fn runs_out(&mut self, set: &DataSet, share: Option<f64>, message: String) {
        self.cause(Name::FeedExhausted, Level::Error, set.line, share, message);
        if let Some(cause) = self.out.causes.iter_mut().find(|cause| cause.name == Name::FeedExhausted) {
            cause.certainty = Certainty::Certain;
        }
    }

    fn one_row(&mut self, i: usize, set: &DataSet, feed: &Feed) {
        let groups =
            self.samplers.iter().filter(|s| s.data_sets.contains(&i)).filter_map(|s| self.plan.groups.get(s.group?));
        let threads = groups.filter_map(|group| group.count).max().unwrap_or_default();
        if threads < 2 {
            return;
        }
        if set.share == Share::Thread && !set.filename.contains("${") {
            let message = format!(
                "each of {} threads reads the file from its first row: all use the same ids and tokens at the same time",
                count(threads)
            );
            self.cause(Name::FeedOneRow, Level::Warning, set.line, None, message);
        } else if feed.rows == 1 && set.recycle {
            let message = format!("the data file has one row for {} threads", count(threads));
            self.cause(Name::FeedOneRow, Level::Warning, set.line, None, message);
        }
    }

    fn encoding(&mut self, feed: &Feed, users: &[Sampler<'_>]) {
        for sampler in users.iter().filter(|sampler| sampler.path.contains("${__urlencode(")) {
            let level = if feed.spaces { Level::Warning } else { Level::Note };
            let line = sampler.node.line_of("HTTPSampler.path");
            self.find(
                "urlencode_in_path",
                level,
                line,
                "__urlencode is for forms: in a path it makes a space a plus".to_owned(),
            );
        }
    }

    fn address(&mut self, sampler: &Sampler<'_>) {
        let node = sampler.node;
        let of_property = |name: &str| node.line_of(name);
        let (domain, path) = (sampler.domain.trim(), sampler.path.trim());
        let line = of_property("HTTPSampler.domain");
        let absolute = path.starts_with("http://") || path.starts_with("https://") || path.starts_with("${");
        let share = self.share(|s| std::ptr::eq(s.node, node));
        if domain.contains("://")
            || domain.ends_with('/')
            || domain.contains(' ')
            || (domain.contains('/') && !domain.contains("${"))
        {
            let message = format!(
                "the server name of {} is {}: a name only, without https:// and without a slash",
                named(node),
                shown(domain)
            );
            self.cause(Name::WrongAddress, Level::Error, line, share, message);
        } else if domain.is_empty() && !absolute && !self.plan.opaque {
            let message = format!("{} has no server name, and no defaults give one", named(node));
            self.cause(Name::WrongAddress, Level::Error, line, share, message);
        } else if is_placeholder(domain) && !domain.contains("${") {
            let message = format!("the server name of {} was never filled in: {}", named(node), shown(domain));
            self.cause(Name::WrongAddress, Level::Error, line, share, message);
        }
        if sampler.fragment {
            // Host and protocol may be defaults of whatever includes it.
            return self.path(sampler, path, share);
        }
        let secure = sampler.protocol.eq_ignore_ascii_case("https");
        let plain = sampler.protocol.is_empty() || sampler.protocol.eq_ignore_ascii_case("http");
        let (port, line) = (sampler.port.trim(), of_property("HTTPSampler.port"));
        if (plain && port == "443") || (secure && port == "80") {
            let message = format!("{} speaks {} to port {port}", named(node), if secure { "https" } else { "http" });
            self.cause(Name::WrongScheme, Level::Error, line, share, message);
        } else if plain && !absolute && ["pure.cloud", "mypurecloud"].iter().any(|name| domain.contains(name)) {
            let message =
                format!("{} speaks http to {}, which answers with a redirect to https", named(node), shown(domain));
            self.cause(Name::WrongScheme, Level::Warning, line, share, message);
        }
        self.path(sampler, path, share);
    }

    fn path(&mut self, sampler: &Sampler<'_>, path: &str, share: Option<f64>) {
        let line = sampler.node.line_of("HTTPSampler.path");
        let without = without_references(path);
        if without.contains(['{', '}']) {
            let message = format!(
                "{} has braces without a dollar, as documentation writes them: {} is no variable, and the request is never sent",
                shown(path),
                named(sampler.node)
            );
            self.cause(Name::FeedPlaceholder, Level::Error, line, share, message);
        } else if let Some((part, name)) = self.of_another_tool(path) {
            let message = format!(
                "{} has {}, which is no variable of JMeter and is sent as this text: ${{{}}} would be one",
                shown(path),
                shown(part),
                shown(&name)
            );
            self.cause(Name::FeedPlaceholder, Level::Error, line, share, message);
        } else if let Some(c) = without.chars().find(|c| "<>\"\\^`|".contains(*c)) {
            let message = format!("{} has {c}, which no path may hold: the request is never sent", shown(path));
            self.cause(Name::FeedUnencodedId, Level::Error, line, share, message);
        } else if without.split(['?', '#']).next().unwrap_or_default().ends_with("/scripts/") && !path.contains("${") {
            let message = format!("{} ends without an id: that is the list of scripts", shown(path));
            self.cause(Name::FeedEmptyId, Level::Warning, line, share, message);
        }
    }

    /// The part of a path that was meant for a variable of the plan, and its name.
    fn of_another_tool<'p>(&self, path: &'p str) -> Option<(&'p str, String)> {
        // OData has these, whatever variables there are.
        let own = ["$count", "$value", "$ref", "$batch", "$metadata"];
        let parts = path.split(['?', '#']).next().unwrap_or_default().split('/');
        // Raw braces are of a reference.
        parts.filter(|part| !part.contains(['{', '}']) && !own.contains(part)).find_map(|part| {
            let (name, braces) = expression::of_another_tool(part)?;
            (braces || self.is_defined(&name)).then_some((part, name))
        })
    }

    fn headers(&mut self, sampler: &Sampler<'_>) {
        let node = sampler.node;
        let share = self.share(|s| std::ptr::eq(s.node, node));
        for dead in node.properties.iter().filter(|p| p.name.eq_ignore_ascii_case("HTTPsampler.headers")) {
            let message = format!(
                "{} of {} is no property of JMeter: the headers in it are not sent",
                shown(&dead.name),
                named(node)
            );
            self.cause(Name::HeaderDead, Level::Error, dead.line, share, message);
        }
        for header in &sampler.headers {
            self.header(sampler, &header.name, &header.value, header.line, share);
        }
        let api = sampler.path.contains("/api/v2/");
        let called = |header: &Header, name: &str| header.name.trim_end_matches(':').trim().eq_ignore_ascii_case(name);
        let has = |name: &str| sampler.headers.iter().any(|header| called(header, name));
        if !api || sampler.authorized_otherwise {
            return;
        }
        if !has("Authorization") && !sampler.path.contains("access_token=") {
            let message =
                format!("no Header Manager in scope of {} has Authorization: every answer is 401", named(node));
            self.cause(Name::TokenMissing, Level::Error, node.line, share, message);
        }
        if !has("Accept") {
            let message = format!(
                "no Header Manager in scope of {} has Accept: the answer may be another than application/json",
                named(node)
            );
            self.cause(Name::HeaderMissing, Level::Warning, node.line, share, message);
        }
        let body =
            node.is("HTTPSampler.postBodyRaw") && matches!(node.get("HTTPSampler.method"), "POST" | "PUT" | "PATCH");
        if body && !has("Content-Type") {
            let message = format!("{} sends a body and no Content-Type", named(node));
            self.cause(Name::HeaderMissing, Level::Warning, node.line, share, message);
        }
    }

    fn header(&mut self, sampler: &Sampler<'_>, name: &str, value: &str, line: u64, share: Option<f64>) {
        let lower = name.trim().to_lowercase();
        if name.ends_with(':') || name.trim() != name || name.contains(' ') {
            let message = format!("the name of the header {} has a colon or a space", shown(name));
            return self.cause(Name::HeaderWrong, Level::Error, line, share, message);
        }
        match lower.as_str() {
            "authorization" => self.authorization(sampler, value, line, share),
            "if-none-match" | "if-modified-since" => {
                let message =
                    format!("{} makes the request conditional: it may be answered 304 without content", shown(name));
                self.cause(Name::NotModified, Level::Warning, line, share, message);
            }
            "if-match" if sampler.node.get("HTTPSampler.method") == "GET" => {
                let message = "If-Match makes a GET fail with 412 when the script has another version".to_owned();
                self.cause(Name::HeaderWrong, Level::Warning, line, share, message);
            }
            "content-length" | "host" if !value.contains("${") => {
                let message = format!("{} is set by hand: JMeter sets it itself", shown(name));
                self.cause(Name::HeaderWrong, Level::Warning, line, share, message);
            }
            _ => {}
        }
    }

    /// The value itself is never told: it may be a token.
    fn authorization(&mut self, sampler: &Sampler<'_>, value: &str, line: u64, share: Option<f64>) {
        let value = value.trim();
        // Other services have other schemes, and no quotas of tokens.
        let genesys = ["pure.cloud", "mypurecloud"].iter().any(|name| sampler.domain.contains(name));
        if !genesys && !sampler.path.contains("api/v2/") && !value.is_empty() {
            return;
        }
        let (scheme, rest) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("basic") || scheme.eq_ignore_ascii_case("digest") {
            return;
        }
        let whole_from_variable = without_references(value).trim().is_empty();
        if value.is_empty() || (scheme.eq_ignore_ascii_case("bearer") && rest.is_empty()) {
            return self.cause(Name::TokenMissing, Level::Error, line, share, "Authorization has no token".to_owned());
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            if whole_from_variable {
                let message = "all of Authorization is of variables: they must hold the word Bearer and a space too";
                return self.find(Name::HeaderWrong.name(), Level::Note, line, message.to_owned());
            }
            let message = "Authorization does not begin with the word Bearer and a space".to_owned();
            return self.cause(Name::HeaderWrong, Level::Error, line, share, message);
        }
        if !rest.contains("${") && expression::of_another_tool(rest).is_some() {
            let message = "the token in Authorization is written as a variable, and is none of JMeter's".to_owned();
            return self.cause(Name::HeaderWrong, Level::Error, line, share, message);
        }
        if rest.to_lowercase().starts_with("bearer") || rest.starts_with(['"', '\'', '<', '{']) {
            let message = "the token in Authorization has quotes or brackets, or the word Bearer twice".to_owned();
            return self.cause(Name::HeaderWrong, Level::Error, line, share, message);
        }
        self.token(rest, line);
    }

    fn token(&mut self, token: &str, line: u64) {
        let threads =
            self.plan.groups.iter().filter(|group| !group.setup).filter_map(|group| group.count).max().unwrap_or(1);
        if threads < 2 {
            return;
        }
        let references = expression::references(token);
        // Another reference may make it one of each thread.
        let source = match references.as_slice() {
            [] if !expression::is_open(token) => "stands in the plan",
            [Reference::Function { name, .. }] if name == "__P" || name == "__property" => "is a property",
            [Reference::Variable(name)] if self.is_the_same_for_all(name) => "is a variable of the whole plan",
            _ => return,
        };
        let message =
            format!("the token {source}: one for all {} threads, and quotas are counted per token", count(threads));
        self.cause(Name::TokenShared, Level::Warning, line, None, message);
    }

    /// Whether the plan gives a variable its value, and nothing else does while it runs.
    fn is_the_same_for_all(&self, name: &str) -> bool {
        let given = self.plan.variables.get(name).is_some_and(|value| !value.is_empty());
        given && !self.plan.assigned.contains(name) && !self.plan.opaque
    }

    /// Variables that nothing defines.
    fn references(&mut self, sampler: &Sampler<'_>) {
        let node = sampler.node;
        let mut texts: Vec<(&str, u64)> = vec![
            (&sampler.path, node.line_of("HTTPSampler.path")),
            (&sampler.domain, node.line_of("HTTPSampler.domain")),
        ];
        texts.extend(sampler.headers.iter().map(|header| (header.value.as_str(), header.line)));
        let share = self.share(|s| std::ptr::eq(s.node, node));
        let mut undefined: Vec<(String, u64)> = Vec::new();
        for (text, line) in texts {
            if expression::is_open(text) {
                let message = format!("a ${{ of {} has no end: it is no variable, and sent as this text", named(node));
                self.cause(Name::FeedPlaceholder, Level::Error, line, share, message);
            }
            for reference in expression::references(text) {
                if let Reference::Variable(name) = reference
                    && !self.is_defined(&name)
                {
                    undefined.push((name, line));
                }
            }
        }
        for (name, line) in undefined {
            let message =
                format!("nothing in the plan defines ${{{}}}: it is sent as this text, or not at all", shown(&name));
            if self.plan.opaque {
                self.find(
                    Name::FeedPlaceholder.name(),
                    Level::Note,
                    line,
                    format!("{message}; unless a script or a data file does"),
                );
            } else {
                self.cause(Name::FeedPlaceholder, Level::Error, line, share, message);
            }
        }
    }

    fn is_defined(&self, name: &str) -> bool {
        let base = name.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end_matches("_g").trim_end_matches('_');
        let derived = [base, name.trim_end_matches("_matchNr"), name.trim_end_matches("_ALL")];
        let own = name.contains("${")
            || name.starts_with("__jm__")
            || name.starts_with("JMeterThread.")
            || name.contains(".MS")
            || name.contains("START.");
        let named = || self.feeds.iter().flatten().any(|(_, feed)| feed.named.iter().any(|n| n == name));
        own || self.plan.defined.contains(name)
            || derived.iter().any(|name| self.plan.defined.contains(*name))
            || named()
    }

    fn connection(&mut self, sampler: &Sampler<'_>) {
        let node = sampler.node;
        if node.get("HTTPSampler.use_keepalive") != "true" && node.short() != "AjpSampler" {
            let what = if node.property("HTTPSampler.use_keepalive").is_some() {
                "is false"
            } else {
                "is missing, which means false"
            };
            let message = format!(
                "use_keepalive of {} {what}: a new connection and TLS handshake for every request",
                named(node)
            );
            self.cause(Name::ConnectionChurn, Level::Warning, node.line_of("HTTPSampler.use_keepalive"), None, message);
        }
        if node.get("HTTPSampler.connect_timeout").is_empty() || node.get("HTTPSampler.response_timeout").is_empty() {
            let message = format!(
                "{} has no connect or response timeout: a lost answer holds its thread for minutes",
                named(node)
            );
            self.find("timeouts", Level::Note, node.line, message);
        }
    }

    /// A login in a setUp group gives one token for all.
    fn same_for_all(&mut self) {
        let login = self.samplers.iter().find(|sampler| {
            let setup = sampler.group.and_then(|group| self.plan.groups.get(group)).is_some_and(|group| group.setup);
            setup && crate::signs::is_login(&sampler.node.name, &format!("http://h{}", sampler.path))
        });
        if let Some(line) = login.map(|sampler| sampler.node.line) {
            let message =
                "the login is in a setUp group: its token is one for all threads, and quotas are counted per token"
                    .to_owned();
            self.cause(Name::TokenShared, Level::Warning, line, None, message);
        }
    }
}

fn uses(text: &str, name: &str) -> bool {
    expression::references(text)
        .iter()
        .any(|r| matches!(r, Reference::Variable(n) if n == name || n.starts_with(&format!("{name}_"))))
}

/// Whether a request has a variable of the data set in it.
fn uses_set(sampler: &Sampler<'_>, set: &DataSet, feed: &Feed) -> bool {
    let names = if set.reading.variables.is_empty() { &feed.named } else { &set.reading.variables };
    names.iter().any(|name| sends(sampler, name))
}

/// Whether a request has this variable in it.
fn sends(sampler: &Sampler<'_>, name: &str) -> bool {
    let in_headers = sampler.headers.iter().any(|header| uses(&header.value, name));
    let mut used = uses(&sampler.path, name) || in_headers;
    sampler.node.texts(|property| used |= uses(&property.value, name));
    used
}

fn without_references(path: &str) -> String {
    let mut out = String::new();
    let mut depth = 0_usize;
    let mut chars = path.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '$' if chars.peek() == Some(&'{') => {
                chars.next();
                depth += 1;
            }
            '{' if depth > 0 => depth += 1,
            '}' if depth > 0 => depth -= 1,
            _ if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

/// The same last part of a path, of Windows or not.
pub(crate) fn same_file(a: &str, b: &str) -> bool {
    let last = |path: &str| path.rsplit(['/', '\\']).next().unwrap_or_default().to_lowercase();
    last(a) == last(b)
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", shown(name))
}

fn named(node: &Node) -> String {
    if node.name.is_empty() { node.short().to_owned() } else { quoted(&node.name) }
}

/// The causes of several rules with one name, as one.
pub(crate) fn merged(causes: Vec<Cause>) -> Vec<Cause> {
    let mut by_name: BTreeMap<Name, Cause> = BTreeMap::new();
    for cause in causes {
        match by_name.get_mut(&cause.name) {
            Some(known) => {
                known.certainty = known.certainty.max(cause.certainty);
                known.share = match (known.share, cause.share) {
                    (Some(a), Some(b)) => Some((a + b).min(1.0)),
                    (a, b) => a.or(b),
                };
                known.evidence.extend(cause.evidence);
                known.evidence.truncate(4);
            }
            None => {
                by_name.insert(cause.name, cause);
            }
        }
    }
    by_name.into_values().collect()
}
