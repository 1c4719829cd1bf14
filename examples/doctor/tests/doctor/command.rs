//! The command: what it exits with, what it prints, and what it refuses.

use std::process::{Command, Output};

use crate::made::{Scratch, csv, run, script};

fn doctor(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_genesys-doctor")).args(arguments).output().expect("the doctor runs")
}

fn of(text: impl AsRef<[u8]>, more: &[&str]) -> (Output, String) {
    let file = Scratch::new("file", text);
    let name = file.0.display().to_string();
    (doctor(&[&[name.as_str()], more].concat()), name)
}

#[test]
fn broken_hostile_and_foreign_files_are_refused_with_file_line_and_reason() {
    let laughs: String = (0..9).map(|i| format!("<!ENTITY l{} \"&l{i};&l{i};&l{i};\">\n", i + 1)).collect();
    for (what, bytes, line, word) in [
        ("a billion laughs", format!("<?xml version=\"1.0\"?>\n<!DOCTYPE x [\n<!ENTITY l0 \"lol\">\n{laughs}]>\n<testResults>&l9;</testResults>").into_bytes(), 3, "entit"),
        ("a file of the machine", b"<!DOCTYPE x [<!ENTITY p SYSTEM \"file:///etc/passwd\">]>\n<jmeterTestPlan>&p;</jmeterTestPlan>".to_vec(), 1, "entit"),
        ("an unknown entity", b"<testResults>\n\n<httpSample lb=\"&x;\"/></testResults>".to_vec(), 3, "&x;"),
        ("mismatched tags", b"<jmeterTestPlan>\n<hashTree>\n<A></B></hashTree></jmeterTestPlan>".to_vec(), 3, "B"),
        ("a cut plan", b"<jmeterTestPlan>\n<hashTree>\n<TestPlan testname=\"x\">".to_vec(), 3, "cut"),
        ("deep elements", format!("<testResults>\n{}", "<a>".repeat(100_000)).into_bytes(), 2, "deep"),
        ("nothing", Vec::new(), 1, "empty"),
        ("blank lines", b"\n\n \n".to_vec(), 1, "blank"),
        ("gzip", vec![0x1f, 0x8b, 8, 0, 1, 2, 3], 1, "gzip"),
        ("UTF-16", vec![0xff, 0xfe, b't', 0, b'i', 0], 1, "UTF-16"),
        ("binary", vec![b'a', 0, 1, 2, 3, 0, 0], 1, "binary"),
        ("a web page", b"<!DOCTYPE html>\n<html></html>".to_vec(), 1, "web page"),
        ("no row that fits", format!("{}\n1,2,3\n4,5,6\n", crate::made::HEADER).into_bytes(), 2, "17"),
        ("a quote that never ends", [csv(&run(3, |_, row, _| row)).as_bytes(), b"1700000000000,1,\"", &vec![b'x'; 3 << 20]].concat(), 5, "quote"),
        ("k6", b"metric_name,timestamp,metric_value,check\nhttp_reqs,1700000000,1,\n".to_vec(), 1, "k6"),
        ("Locust", b"Timestamp,User Count,Type,Name,Requests/s\n1,2,,Aggregated,3\n".to_vec(), 1, "Locust"),
        ("Vegeta", b"1700000000000000000,200,45000000,0,120,,aGk=,x,0,GET,http://a/,\n".to_vec(), 1, "Vegeta"),
        ("sums", b"Label,# Samples,Average,Median,90% Line,Throughput\nGET,4,5,6,7,8\n".to_vec(), 1, "sums"),
    ] {
        let (output, name) = of(bytes, &[]);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{what}: {error}");
        assert!(error.contains(&format!("{name}:{line}: ")), "{what}: {error}");
        assert!(error.to_lowercase().contains(&word.to_lowercase()), "{what}: {error}");
    }
    assert_eq!(doctor(&["/no/such/file"]).status.code(), Some(2));
    assert_eq!(doctor(&[]).status.code(), Some(2));
}

#[test]
fn it_exits_by_what_was_found() {
    let healthy = run(60, |_, row, _| row);
    let broken = run(600, |_, row, _| if row.url == script(3) { row.failed("400", "Bad Request") } else { row });
    let few = run(30, |i, row, _| if i == 7 { row.failed("400", "Bad Request") } else { row });
    for (rows, code, verdict) in [(healthy, 0, "nothing_found"), (broken, 1, "causes"), (few, 1, "not_enough_evidence")]
    {
        let (output, _) = of(csv(&rows), &["--json"]);
        assert_eq!(output.status.code(), Some(code));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(json["verdict"], verdict);
        for list in ["causes", "findings", "ruled_out", "read"] {
            assert!(json[list].is_array(), "{list}");
        }
    }
}

#[test]
fn people_get_what_how_sure_the_numbers_and_what_to_do() {
    let broken = run(600, |_, row, _| if row.url == script(3) { row.failed("400", "Bad Request") } else { row });
    let (output, _) = of(csv(&broken), &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    for part in ["broken_script", "likely", "100.0 % of the failures", "What to do:", &script(3)] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains('\x1b'), "colour is for terminals");
}

#[test]
fn nothing_of_a_file_moves_the_cursor_fills_the_screen_or_tells_a_secret() {
    let rows = run(60, |i, mut row, _| {
        row.label = format!("\x1b]0;x\x07{}", "L".repeat(3_000));
        row.url = format!("https://me:hunter2@api.example.test/x?access_token=SECRET{i}");
        if i % 2 == 0 {
            row.failed("500", &format!("\x1b[2J Bearer eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.{i}"))
        } else {
            row
        }
    });
    for more in [&["--json"][..], &[]] {
        let (output, _) = of(csv(&rows), more);
        let text = String::from_utf8_lossy(&output.stdout);
        for part in ["\x1b", "\x07", "SECRET", "hunter2", "eyJhb"] {
            assert!(!text.contains(part), "{part:?} in {text}");
        }
        assert!(text.len() < 20_000, "{} bytes", text.len());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_report_that_cannot_be_written_is_an_error() {
    let file = Scratch::new("file", csv(&run(60, |_, row, _| row)));
    for more in [&["--json"][..], &[]] {
        let full = std::fs::File::create("/dev/full").expect("a device");
        let mut command = Command::new(env!("CARGO_BIN_EXE_genesys-doctor"));
        let output = command.arg(&file.0).args(more).stdout(full).output().expect("the doctor runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains("error: "), "{:?} {error}", output.status);
    }
}

#[cfg(unix)]
#[test]
fn what_comes_through_a_pipe_is_read_from_its_beginning() {
    let rows = csv(&run(2_000, |i, row, _| if i % 9 == 2 { row.failed("429", "Too Many Requests") } else { row }));
    let piped = |text: &str| {
        let mut doctor = Command::new(env!("CARGO_BIN_EXE_genesys-doctor"))
            .args(["/dev/stdin", "--json"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .expect("the doctor runs");
        let mut input = doctor.stdin.take().expect("a pipe");
        std::io::Write::write_all(&mut input, text.as_bytes()).expect("it reads");
        drop(input);
        doctor.wait_with_output().expect("it ends")
    };
    let output = piped(&rows);
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["read"][0]["requests"], 2_000);
    let data = piped("scriptId,token\n0a1b2c3d-0000-4000-8000-000000000001,t0\n");
    assert_eq!(data.status.code(), Some(2), "a data file is read again, and its beginning is gone");
    assert!(String::from_utf8_lossy(&data.stderr).contains("pipe"));
}
