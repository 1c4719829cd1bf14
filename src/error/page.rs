//! The words of a page: of HTML its title and what can be read, of XML the text of its elements.

use crate::text::entity;

/// No more runs of text are taken from a page.
const RUNS: usize = 12;
/// No known entity has a longer name.
const LONGEST_ENTITY: usize = 10;
/// What stands within a sentence.
const INLINE: [&str; 12] = ["a", "abbr", "b", "code", "em", "font", "i", "small", "span", "strong", "tt", "u"];
/// What nobody reads.
const HIDDEN: [&str; 4] = ["style", "script", "template", "svg"];

/// Elements that a page of HTML begins with, cut as it may be; XML begins with one of its own.
const FIRST: [&str; 20] = [
    "html", "head", "title", "meta", "link", "body", "center", "div", "main", "section", "p", "h1", "h2", "h3", "h4",
    "pre", "form", "table", "br", "hr",
];

/// Whether a page is HTML.
pub(super) fn is_html(page: &str) -> bool {
    // Both may begin with `<?xml …?>` and comments.
    let mut tags = page.split('<').skip(1).filter(|tag| !tag.starts_with(['?', '!']) || is_of(tag, "!doctype"));
    tags.next().is_some_and(|tag| match is_of(tag, "!doctype") {
        true => tag.to_ascii_lowercase().contains("html"),
        false => FIRST.iter().chain(&INLINE).chain(&HIDDEN).any(|name| is_of(tag, name)),
    })
}

/// Whether that is the element's name.
fn is_of(tag: &str, name: &str) -> bool {
    let is_end = |c: char| c.is_whitespace() || matches!(c, '/' | '>');
    tag.split(is_end).next().is_some_and(|of| of.eq_ignore_ascii_case(name))
}

/// The runs of text that a page shows, its title first; each once.
pub(super) fn words(page: &str) -> Vec<String> {
    let mut runs: Vec<String> = Vec::new();
    let (mut run, mut rest) = (String::new(), page);
    while runs.len() < RUNS {
        let Some((text, tag)) = rest.split_once('<') else {
            run.push_str(rest);
            break;
        };
        run.push_str(text);
        if let Some(comment) = tag.strip_prefix("!--") {
            rest = comment.split_once("-->").map_or("", |(_, after)| after);
            continue;
        }
        let cdata = tag.strip_prefix("![CDATA[").map(|data| data.split_once("]]>").unwrap_or((data, "")));
        if let Some((data, after)) = cdata {
            run.push_str(data);
            rest = after;
            continue;
        }
        let (tag, after) = tag.split_once('>').unwrap_or((tag, ""));
        let is_end = |c: char| c.is_whitespace() || c == '/';
        let name = tag.trim_start_matches('/').split(is_end).next().unwrap_or_default().to_ascii_lowercase();
        rest = match HIDDEN.contains(&name.as_str()) && !tag.starts_with('/') && !tag.ends_with('/') {
            true => behind(after, &name),
            false => after,
        };
        if !INLINE.contains(&name.as_str()) {
            end(&mut runs, &mut run);
        }
    }
    end(&mut runs, &mut run);
    runs
}

fn end(runs: &mut Vec<String>, run: &mut String) {
    let text = unescaped(run).split_whitespace().collect::<Vec<_>>().join(" ");
    run.clear();
    let is_new = !runs.iter().any(|other| other.contains(&text));
    if is_new && text.chars().any(char::is_alphanumeric) {
        runs.push(text);
    }
}

/// What comes after the end of the element.
fn behind<'a>(text: &'a str, name: &str) -> &'a str {
    let at = text.match_indices("</").find(|(at, _)| {
        let tag = text.get(at + 2..at + 2 + name.len());
        tag.is_some_and(|tag| tag.eq_ignore_ascii_case(name))
    });
    at.and_then(|(at, _)| text.get(at..)).unwrap_or_default()
}

/// The usual entities as the characters they stand for.
pub(super) fn unescaped(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('&') {
        plain.push_str(before);
        let end = after.bytes().take(LONGEST_ENTITY).position(|byte| byte == b';');
        let named = end.and_then(|end| Some((after.get(..end)?, after.get(end + 1..)?)));
        let known = named.and_then(|(name, rest)| Some((entity(name)?, rest)));
        rest = match known {
            Some((c, rest)) => {
                plain.push(c);
                rest
            }
            None => {
                plain.push('&');
                after
            }
        };
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_page_shows_is_taken_once_and_what_it_hides_is_not() {
        let page = "<!DOCTYPE html><html><head><title>400 Bad Request</title><style>h1 {a: b}</style></head>\
            <body><!-- no --><h1>400 Bad Request</h1><p><b>Message</b> it&#39;s &lt;x&gt;<br>twice</p><hr class='a'/><SCRIPT>x < y</script>\
            <script type='b'>z < y</script></body>";
        assert_eq!(words(page), ["400 Bad Request", "Message it's <x>", "twice"]);
        assert_eq!(
            words("<Error><Code>SlowDown</Code><Message><![CDATA[wait <now>]]></Message></Error>"),
            ["SlowDown", "wait <now>"]
        );
    }

    #[test]
    fn entities_are_the_characters_they_stand_for() {
        let entities =
            "a&amp;b &lt;c&gt; &quot;d&quot; e&apos;f g&nbsp;h i&ndash;j k&mdash;l &#x41;&#X42;&#67; &nothing; &";
        assert_eq!(words(entities), ["a&b <c> \"d\" e'f g h i–j k–l ABC &nothing; &"]);
    }

    #[test]
    fn html_is_told_from_xml_by_what_it_begins_with() {
        for html in [
            "<!DOCTYPE html><html>",
            "<!doctype HTML PUBLIC \"-//IETF//DTD HTML 2.0//EN\"><x>",
            "<HTML>",
            "<?xml version=\"1.0\"?>\n<!DOCTYPE html>\n<html>",
            "<!-- a --><html lang='en'>",
            "<h1>No</h1>",
            "<br/>No",
            "<a href='x'>No</a>",
            "<script>no</script><html>",
        ] {
            assert!(is_html(html), "{html}");
        }
        for xml in ["<?xml version=\"1.0\"?><Error>", "<Error/>", "<!-- a --><fault>", "<!DOCTYPE x><p>", "<", "<?xml"]
        {
            assert!(!is_html(xml), "{xml}");
        }
    }

    #[test]
    fn odd_pages_are_read_as_far_as_they_go() {
        // Looked for to the end of the page for each, their ends would take minutes.
        assert!(words(&format!("<p>a{}", "&".repeat(1 << 18))).len() == 1);
        for page in ["<", "<<<", "<style>", "<p", "&#99999999;&#xD800;&;&&amp", "<!--", "<![CDATA[", "<a href='x>y'>z"]
        {
            let _ = words(page);
        }
        assert_eq!(words(&"<p>a".repeat(100)).len(), 1);
        assert_eq!(words(&(0..100).map(|n| format!("<p>line{n}.")).collect::<String>()).len(), RUNS);
    }
}
