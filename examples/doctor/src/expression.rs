//! `${variables}` and `${__functions()}` in the texts of a plan.

use std::collections::BTreeMap;

/// The functions of JMeter itself, and those of the plugins that most people have.
const FUNCTIONS: &[&str] = &[
    "__BeanShell",
    "__char",
    "__counter",
    "__CSVRead",
    "__changeCase",
    "__dateTimeConvert",
    "__digest",
    "__escapeHtml",
    "__escapeOroRegexpChars",
    "__escapeXml",
    "__eval",
    "__evalVar",
    "__FileToString",
    "__groovy",
    "__intSum",
    "__isPropDefined",
    "__isVarDefined",
    "__javaScript",
    "__jexl2",
    "__jexl3",
    "__log",
    "__logn",
    "__longSum",
    "__machineIP",
    "__machineName",
    "__P",
    "__property",
    "__Random",
    "__RandomDate",
    "__RandomFromMultipleVars",
    "__RandomString",
    "__regexFunction",
    "__samplerName",
    "__setProperty",
    "__split",
    "__StringFromFile",
    "__StringToFile",
    "__TestPlanName",
    "__threadGroupName",
    "__threadNum",
    "__time",
    "__timeShift",
    "__toRfc3339",
    "__unescape",
    "__unescapeHtml",
    "__urldecode",
    "__urlencode",
    "__UUID",
    "__V",
    "__XPath",
    "__base64Decode",
    "__base64Encode",
    "__chooseRandom",
    "__MD5",
    "__doubleSum",
    "__env",
    "__GetEL",
    "__if",
    "__isDefined",
    "__iterationNum",
    "__lowercase",
    "__strLen",
    "__strReplace",
    "__strReplaceRegex",
    "__substring",
    "__uppercase",
    "__TestFragmentName",
    "__caseFormat",
    "__regex",
];

/// What stands in `${…}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reference {
    Variable(String),
    Function { name: String, arguments: Vec<String> },
}

/// All references in a text, those within others too.
pub(crate) fn references(text: &str) -> Vec<Reference> {
    let mut out = Vec::new();
    collect(text, &mut out, 0);
    out
}

fn collect(text: &str, out: &mut Vec<Reference>, depth: usize) {
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let escaped = rest.get(..at).is_some_and(|before| before.ends_with('\\'));
        let inner = rest.get(at + 2..).unwrap_or_default();
        let Some(end) = closing(inner) else { return };
        let body = inner.get(..end).unwrap_or_default();
        rest = inner.get(end + 1..).unwrap_or_default();
        if escaped || depth > 8 {
            continue;
        }
        let reference = parse(body);
        if let Reference::Function { arguments, .. } = &reference {
            for argument in arguments {
                collect(argument, out, depth + 1);
            }
        } else {
            collect(body, out, depth + 1);
        }
        out.push(reference);
    }
}

/// Whether a reference begins that never ends.
pub(crate) fn is_open(text: &str) -> bool {
    let mut rest = text;
    while let Some((before, inner)) = rest.split_once("${") {
        match closing(inner).and_then(|end| inner.get(end + 1..)) {
            Some(after) => rest = after,
            None => return !before.ends_with('\\'),
        }
    }
    false
}

/// The name in what other tools take for a variable: `:id`, `$id`, `%id%`, `[id]` or, as browsers encode it, `{id}`. And
/// whether it is in braces, which hardly anything else is.
pub(crate) fn of_another_tool(text: &str) -> Option<(String, bool)> {
    const MARKS: [char; 9] = ['$', ':', '(', ')', '[', ']', '{', '}', '%'];
    let plain = MARKS.iter().fold(text.to_owned(), |text, mark| {
        let code = u32::from(*mark);
        [format!("%{code:02X}"), format!("%{code:02x}")].iter().fold(text, |text, c| text.replace(c, &mark.to_string()))
    });
    let name = plain.trim_matches(MARKS);
    let word = name.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))
        && !crate::signs::is_uuid(name);
    (word && plain.starts_with(MARKS)).then(|| (name.to_owned(), plain.contains('{')))
}

/// Where the brace that closes this is.
fn closing(text: &str) -> Option<usize> {
    let mut open = 0;
    let mut previous = ' ';
    for (i, c) in text.char_indices() {
        match c {
            '{' if previous == '$' => open += 1,
            '}' if open == 0 => return Some(i),
            '}' => open -= 1,
            _ => {}
        }
        previous = c;
    }
    None
}

fn parse(body: &str) -> Reference {
    let body = body.trim();
    // `${!__isEmpty(x)}` is no function either, whatever it is called.
    if !body.trim_start_matches('!').starts_with("__") {
        return Reference::Variable(body.to_owned());
    }
    let (name, arguments) = match body.split_once('(') {
        Some((name, rest)) => (name, split(rest.strip_suffix(')').unwrap_or(rest))),
        None => (body, Vec::new()),
    };
    Reference::Function { name: name.trim().to_owned(), arguments }
}

/// Arguments at commas that are not escaped and not within a reference.
fn split(text: &str) -> Vec<String> {
    let (mut arguments, mut current, mut depth, mut escaped) = (Vec::new(), String::new(), 0_usize, false);
    for c in text.chars() {
        match c {
            ',' if depth == 0 && !escaped => arguments.push(std::mem::take(&mut current)),
            _ => {
                match c {
                    '(' | '{' => depth += 1,
                    ')' | '}' => depth = depth.saturating_sub(1),
                    _ => {}
                }
                current.push(c);
            }
        }
        escaped = c == '\\' && !escaped;
    }
    arguments.push(current);
    arguments
}

/// Whether there is such a function.
pub(crate) fn is_function(name: &str) -> bool {
    FUNCTIONS.contains(&name)
}

/// The value of a text before the test runs: properties have their defaults, variables what the plan defines.
/// None if that cannot be known. The second is whether a property's default was taken.
pub(crate) fn value(text: &str, variables: &BTreeMap<String, String>) -> Option<(String, bool)> {
    evaluate(text.trim(), variables, 0)
}

fn evaluate(text: &str, variables: &BTreeMap<String, String>, depth: usize) -> Option<(String, bool)> {
    let Some(at) = text.find("${") else { return Some((text.to_owned(), false)) };
    if depth > 8 {
        return None;
    }
    let inner = text.get(at + 2..)?;
    let end = closing(inner)?;
    let (known, default) = match parse(inner.get(..end)?) {
        Reference::Variable(name) => evaluate(variables.get(&name)?, variables, depth + 1)?,
        Reference::Function { name, arguments } => {
            let default = match name.as_str() {
                "__P" => arguments.get(1).map_or("1", String::as_str),
                "__property" => arguments.get(2)?.as_str(),
                _ => return None,
            };
            (evaluate(default.trim(), variables, depth + 1)?.0, true)
        }
    };
    let (rest, more) = evaluate(inner.get(end + 1..)?, variables, depth + 1)?;
    Some((format!("{}{known}{rest}", text.get(..at)?), default || more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_have_their_defaults() {
        let variables = BTreeMap::from([("n".to_owned(), "${__P(threads,80)}".to_owned())]);
        for (text, expected) in [
            ("100", Some(("100", false))),
            ("${__P(threads,100)}", Some(("100", true))),
            ("${__property(threads,,60)}", Some(("60", true))),
            ("${n}", Some(("80", true))),
            ("${__P(threads)}", Some(("1", true))),
            ("${m}", None),
            ("${__Random(1,5)}", None),
            ("${", None),
        ] {
            let expected = expected.map(|(value, default)| (value.to_owned(), default));
            assert_eq!(value(text, &variables), expected, "{text}");
        }
    }

    #[test]
    fn references_are_found_within_others() {
        let found = references("/x/${__urlencode(${scriptId})}/\\${no}/${a_${b}}");
        let names: Vec<String> = found
            .iter()
            .map(|reference| match reference {
                Reference::Variable(name) => name.clone(),
                Reference::Function { name, .. } => format!("{name}()"),
            })
            .collect();
        assert_eq!(names, ["scriptId", "__urlencode()", "b", "a_${b}"]);
    }
}
