//! A request is held against those of its kind, however they are labelled; and what an address shows counts only where no
//! address that was served shows the same.

use crate::made::{Row, csv, run, script};
use crate::results::{report, shows, sure};
use genesys_doctor::cause::Verdict;

fn hit(row: &Row, ids: &[u64]) -> bool {
    ids.iter().any(|id| row.url == script(*id))
}

#[test]
fn a_label_for_each_script_hides_no_broken_one() {
    for (code, name) in [("400", "broken_script"), ("503", "broken_script"), ("404", "feed_unknown_id")] {
        let labelled = |label: fn(&str, u64) -> String| {
            run(600, move |_, mut row, _| {
                let id = row.url.rsplit('/').next().unwrap_or_default().to_owned();
                let number: u64 = id.rsplit('-').next().and_then(|digits| digits.parse().ok()).unwrap_or_default();
                row.label = label(&id, number);
                if hit(&row, &[7, 21]) { row.failed(code, "no") } else { row }
            })
        };
        shows("by id", &labelled(|id, _| format!("GET script {id}")), &[name]);
        let names = |_: &str, n: u64| {
            let letter = |n: u64| char::from(b'A' + u8::try_from(n % 26).unwrap_or_default());
            format!("GET script {}{}", letter(n), letter(n / 26 + 3))
        };
        shows("by name", &labelled(names), &[name]);
    }
}

#[test]
fn steps_that_are_all_refused_are_not_mixed_with_others() {
    let rows = run(300, |i, mut row, _| {
        let writes = i % 3 == 0;
        row.label = if writes { "write state" } else { "read state" }.into();
        row.url = format!("https://api.example.test/servers/{}/state", i % 10);
        if writes { row.failed("400", "Bad Request") } else { row }
    });
    shows("a step", &rows, &["all_refused"]);
}

#[test]
fn an_address_that_is_served_too_tells_nothing_wrong() {
    for path in ["/img/placeholder.png", "/client-errors", "/not-found", "/todo", "/none"] {
        let rows = run(55, |i, mut row, _| {
            row.url = format!("https://app.example.test{path}");
            if i % 11 == 5 { row.failed("503", "Service Unavailable") } else { row }
        });
        let report = report(csv(&rows));
        assert_eq!(sure(&report), Vec::<&str>::new(), "{path}: {:#?}", report.causes);
    }
    // Where it was never served it is a page all the same.
    for path in ["/img/placeholder.png", "/client-errors", "/not-found", "/todo"] {
        let rows = run(60, |_, mut row, _| {
            row.url = format!("https://app.example.test{path}");
            row.failed("503", "Service Unavailable")
        });
        shows(path, &rows, &["service_down"]);
    }
    let doubled = run(600, |_, mut row, rng| {
        row.url = row.url.replace("/api/", "//api/");
        if rng.f64() < 0.1 { row.failed("503", "Service Unavailable") } else { row }
    });
    shows("a slash too many", &doubled, &["transient"]);
}

#[test]
fn what_an_extractor_says_among_ids_is_a_placeholder_however_it_is_written() {
    for word in ["ORDER_NOT_FOUND", "not_found", "notFound", "todo", "null"] {
        let rows = run(200, |i, mut row, _| {
            row.url = format!("https://api.example.test/orders/{}", i % 40);
            if i % 10 != 3 {
                return row;
            }
            row.url = format!("https://api.example.test/orders/{word}");
            row.failed("400", "Bad Request")
        });
        shows(word, &rows, &["feed_placeholder"]);
    }
}

#[test]
fn a_word_among_ids_is_a_header_only_where_it_is_called_like_one() {
    let mixed = |word: &'static str, code: &'static str| {
        run(400, move |i, mut row, _| {
            if i % 10 == 3 {
                row.url = format!("https://api.example.test/api/v2/scripts/{word}");
                return row.failed(code, "no");
            }
            row
        })
    };
    for word in ["published", "divisions", "export"] {
        for code in ["503", "400"] {
            let report = report(csv(&mixed(word, code)));
            assert!(!sure(&report).contains(&"feed_header_row"), "{word} {code}: {:#?}", report.causes);
        }
    }
    for word in ["scriptId", "id", "script_id"] {
        shows(word, &mixed(word, "400"), &["feed_header_row"]);
    }
    // What is wrong with an id is not what a gateway has.
    let down = report(csv(&mixed("0a1b2c3d-0000-4000", "503")));
    assert!(!sure(&down).contains(&"feed_unknown_id"), "{:#?}", down.causes);
}

#[test]
fn a_request_without_an_address_has_no_empty_id() {
    for url in ["null", ""] {
        let rows = run(200, |i, mut row, _| {
            if i % 10 != 3 {
                return row;
            }
            row.url = url.into();
            row.failed("Non HTTP response code: java.net.SocketTimeoutException", "Read timed out")
        });
        shows(url, &rows, &["timeout"]);
        let rows = run(200, |i, mut row, _| {
            if i % 10 != 3 {
                return row;
            }
            row.url = url.into();
            row.failed("Non HTTP response code: java.net.MalformedURLException", "no protocol: x")
        });
        shows(url, &rows, &["client_made"]);
    }
}

#[test]
fn words_are_whole_words() {
    let of = |code: &'static str, message: &'static str| {
        report(csv(&run(60, |i, row, _| if i % 15 == 4 { row.failed(code, message) } else { row })))
    };
    for (code, message) in [
        ("400", "Request blocked by policy"),
        ("400", "invalid code block in page"),
        ("400", "the script is unlocked"),
        ("412", "a clock is wrong"),
    ] {
        let report = of(code, message);
        let never = |name: &str| name == "contention";
        assert!(!report.causes.iter().any(|c| never(c.name.name())), "{message}: {:#?}", report.causes);
    }
    for (code, message, name) in [
        ("400", "Too many concurrent requests", "quota"),
        ("400", "ProvisionedThroughputExceededException", "quota"),
        ("400", "request limit exceeded", "quota"),
        ("403", "API quota exceeded", "quota"),
        ("400", "concurrent modification of the script", "contention"),
        ("400", "a concurrent update won", "contention"),
        ("400", "The script is locked by another user", "contention"),
        ("400", "version conflict", "contention"),
    ] {
        let report = of(code, message);
        assert_eq!(sure(&report), [name], "{message}: {:#?}", report.causes);
        assert_eq!(report.verdict, Verdict::Causes);
    }
}

#[test]
fn a_step_that_never_succeeds_is_no_script_where_no_column_tells_addresses() {
    let rows = run(600, |i, mut row, luck| {
        row.label = ["Get user", "Get queue", "Get script", "Log out"][(i % 4) as usize].into();
        let fails = row.label == "Log out" || luck.f64() < 0.3;
        row.url = String::new();
        if fails { row.failed("401", "Unauthorized") } else { row }
    });
    let without_url = csv(&rows).replacen(",URL", ",Nothing", 1);
    let report = report(without_url);
    assert!(
        !sure(&report).iter().any(|name| ["feed_unknown_id", "broken_script"].contains(name)),
        "{:#?}",
        report.causes
    );
}

#[test]
fn a_word_for_nothing_in_the_place_of_a_script_is_a_placeholder() {
    for word in ["changeme", "not_found"] {
        let rows = run(200, |_, mut row, _| {
            row.url = format!("https://api.example.test/api/v2/scripts/{word}");
            row.failed("404", "Not Found")
        });
        shows(word, &rows, &["feed_placeholder"]);
    }
}
