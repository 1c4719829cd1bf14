//! A line for each iteration as JMeter's CSV result files have it by default, in their 17 columns, so that whatever reads
//! those reads these: `timeStamp` is the start, `elapsed` the service time. `bytes` and `Latency` are known in the naive
//! mode alone, and of the body alone; `sentBytes` and `Connect` in neither, and are 0.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::output::{self, Aside};
use crate::run::Sample;

pub(crate) struct Jtl {
    /// Those on their way to the file.
    lines: csv::Writer<Vec<u8>>,
    file: Aside,
    label: &'static str,
    /// By agent: its name, and the URL it asks for first.
    threads: Vec<(String, String)>,
    /// What kept it from being written.
    error: Option<io::Error>,
}

/// Bytes of lines that are written at once.
const AT_ONCE: usize = 64 * 1024;

fn no_lines() -> csv::Writer<Vec<u8>> {
    csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new())
}

const HEADER: [&str; 17] = [
    "timeStamp",
    "elapsed",
    "label",
    "responseCode",
    "responseMessage",
    "threadName",
    "dataType",
    "success",
    "failureMessage",
    "bytes",
    "sentBytes",
    "grpThreads",
    "allThreads",
    "URL",
    "Latency",
    "IdleTime",
    "Connect",
];

impl Jtl {
    pub(crate) fn new(file: Aside, label: &'static str, threads: Vec<(String, String)>) -> Self {
        let mut lines = no_lines();
        let error = lines.write_record(HEADER).err().map(io::Error::from);
        Self { lines, file, label, threads, error }
    }

    pub(crate) fn line(&mut self, mode: &str, agent: u32, began_at: SystemTime, in_flight: u64, sample: &Sample) {
        if self.error.is_some() {
            return;
        }
        let status =
            |status: u16| hyper::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason());
        let (code, message, failure) = match &sample.outcome.result {
            Ok(()) => ("200".to_owned(), "OK", ""),
            Err(failure) => match failure.status {
                Some(code) => (code.to_string(), status(code).unwrap_or_default(), failure.text.as_str()),
                // Readers tell by the first words that there was no answer.
                None if failure.timed_out => (
                    "Non HTTP response code: timeout".to_owned(),
                    "Non HTTP response message: timed out",
                    failure.text.as_str(),
                ),
                None => (
                    format!("Non HTTP response code: {}", failure.label()),
                    "Non HTTP response message",
                    failure.text.as_str(),
                ),
            },
        };
        let (name, url) = self.threads.get(agent as usize).map_or(("agent", "null"), |(name, url)| (name, url));
        let in_flight = in_flight.to_string();
        let line: [&str; HEADER.len()] = [
            &began_at.duration_since(UNIX_EPOCH).map_or(0, millis).to_string(),
            &millis(sample.service_time()).to_string(),
            &format!("{mode}: {}", self.label),
            &code,
            message,
            &format!("{mode} {name} 1-{}", agent + 1),
            "text",
            if sample.outcome.result.is_ok() { "true" } else { "false" },
            failure,
            &sample.outcome.bytes.to_string(),
            "0",
            &in_flight,
            &in_flight,
            url,
            &millis(sample.outcome.first_byte).to_string(),
            "0",
            "0",
        ];
        let line = self.lines.write_record(line).map_err(io::Error::from);
        if let Err(error) = line.and_then(|()| self.pass_on(AT_ONCE)) {
            output::tell(&format!("warning: the --jtl file has no line from here on: {error}"));
            self.error = Some(error);
        }
    }

    /// Writes the lines there are, if they are so many bytes.
    fn pass_on(&mut self, from: usize) -> io::Result<()> {
        if self.lines.get_ref().len() < from {
            return Ok(());
        }
        let lines = std::mem::replace(&mut self.lines, no_lines()).into_inner();
        self.file.add(&lines.map_err(csv::IntoInnerError::into_error)?)
    }

    /// All of it; or what there is, apart.
    pub(crate) fn keep(mut self) -> anyhow::Result<()> {
        let error = self.error.take().or_else(|| self.pass_on(0).err());
        match error {
            None => self.file.keep(),
            Some(error) => Err(anyhow::Error::new(error).context(self.file.leave())),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros().saturating_add(500) / 1000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;
    use crate::run::tests::sample;

    #[test]
    fn it_reads_as_jmeter_writes_it() {
        let path = std::env::temp_dir().join(format!("jtl-test-{}.jtl", std::process::id()));
        let mut jtl = Jtl::new(
            Aside::open(&path).unwrap(),
            "get script",
            vec![("anna".to_owned(), "https://a/api/v2/scripts/x".to_owned())],
        );
        let at = UNIX_EPOCH + Duration::from_millis(1_551_783_627_191);
        jtl.line("naive", 0, at, 3, &sample(351, Ok(())));
        let mut refused = Failure::other("get script: HTTP 400 \"bad, really\"");
        refused.status = Some(400);
        jtl.line("naive", 0, at, 2, &sample(20, Err(refused)));
        jtl.line("naive", 1, at, 1, &sample(9, Err(Failure::other("connection refused"))));
        jtl.keep().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "timeStamp,elapsed,label,responseCode,responseMessage,threadName,dataType,success,failureMessage,bytes,sentBytes,grpThreads,allThreads,URL,Latency,IdleTime,Connect",
                "1551783627191,351,naive: get script,200,OK,naive anna 1-1,text,true,,0,0,3,3,https://a/api/v2/scripts/x,0,0,0",
                "1551783627191,20,naive: get script,400,Bad Request,naive anna 1-1,text,false,\"get script: HTTP 400 \"\"bad, really\"\"\",0,0,2,2,https://a/api/v2/scripts/x,0,0,0",
                "1551783627191,9,naive: get script,Non HTTP response code: no answer,Non HTTP response message,naive agent 1-2,text,false,connection refused,0,0,1,1,null,0,0,0",
            ]
        );
    }
}
