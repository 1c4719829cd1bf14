//! The doctor: why a load test failed, from the files that a tester has. `--help` tells how to ask it.

mod clock;
mod diagnose;
mod explain;
mod groups;
mod input;
mod jtl;
mod jtl_xml;
mod layout;
mod sample;
mod signs;
mod text;
mod xml;
pub mod cause;
pub mod hypothesis;

/// Does what the command line says.
pub fn main() -> std::process::ExitCode {
    for file in std::env::args().skip(1).filter(|a| !a.starts_with("--")) {
        let f = std::fs::read(&file).unwrap();
        let r = match input::kind(&f) { Ok(input::Kind::Rows) => jtl::read(&f[..], &file), Ok(input::Kind::Elements) => jtl_xml::read(&f[..], &file), Ok(k) => {println!("{k:?}"); continue}, Err(e) => Err(e)};
        match r { Err(e) => println!("{file} {e}"), Ok((r, f)) => {
            let d = diagnose::diagnose(&r, &file);
            println!("{file} {} {:?} {:?} runs {} fail {}", d.requests, d.codes, d.seconds, d.runs, d.failures);
            for c in &d.causes { println!("   {:?} {:?} {:?} {:?} {:?}", c.name, c.certainty, c.share, c.follows, c.evidence); }
            for c in f.iter().chain(&d.findings) { println!("   - {:?} {} {} {}", c.level, c.rule, c.line, c.message); }
            for c in &d.ruled_out { println!("   x {:?} {}", c.name, c.why); }
            for c in &d.not_tested { println!("   ? {}", c); }
        }}
    }
    std::process::ExitCode::SUCCESS
}
