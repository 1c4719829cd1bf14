//! Where results go: a closed pipe or a full disk loses the text and never the verdict, and a file is replaced only by a
//! whole one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;

/// To stdout. Whoever closed it does not want it.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error).context("cannot write to stdout"),
        _ => Ok(()),
    }
}

/// To stderr. If that cannot be, there is nowhere to say so.
pub(crate) fn tell(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// What people are told: to stdout, where that is not for results. Nobody asked for more than to be told, so that what cannot
/// be is no failure.
pub(crate) fn people(text: &str, to_stderr: bool) {
    if to_stderr {
        tell(text);
    } else if let Err(error) = print(text) {
        tell(&format!("error: {error:#}"));
    }
}

/// Where results under way are.
static UNDER_WAY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn under_way() -> MutexGuard<'static, Vec<PathBuf>> {
    UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names what there is of results, for those who do not wait until they are whole.
pub(crate) fn tell_what_is_left() {
    for aside in under_way().iter() {
        if fs::metadata(aside).is_ok_and(|left| left.len() > 0) {
            tell(&format!("what was written is in {}", aside.display()));
        } else {
            let _ = fs::remove_file(aside);
        }
    }
}

/// A file of results under way: written aside, and put in its place when it is whole.
pub(crate) struct Aside {
    file: File,
    /// Of what was added.
    length: u64,
    /// Where it is meanwhile; none where there is no file to replace, like `/dev/stdout`.
    aside: Option<PathBuf>,
    path: PathBuf,
}

impl Aside {
    /// Opened before anything is sent: numbers that took minutes to get are not lost to a mistyped path.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot write {}", path.display());
        // Behind a link it is the file that is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&path) {
            Ok(there) if !there.is_file() => {
                let file = OpenOptions::new().write(true).open(&path).with_context(cannot)?;
                return Ok(Self { file, length: 0, aside: None, path });
            }
            // One that must not be written is not to be replaced either.
            Ok(_) => drop(OpenOptions::new().append(true).open(&path).with_context(cannot)?),
            Err(_) => {}
        }
        let name = path.file_name().with_context(cannot)?.to_string_lossy();
        let aside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let file = File::create(&aside).with_context(cannot)?;
        under_way().push(aside.clone());
        Ok(Self { file, length: 0, aside: Some(aside), path })
    }

    /// Lines that are whole: all of them, or none.
    pub(crate) fn add(&mut self, lines: &[u8]) -> io::Result<()> {
        let added = self.file.write_all(lines);
        match added {
            Ok(()) => self.length += lines.len() as u64,
            Err(_) => drop(self.file.set_len(self.length)),
        }
        added
    }

    /// It is whole.
    pub(crate) fn keep(self) -> anyhow::Result<()> {
        let Some(aside) = &self.aside else { return Ok(()) };
        // A file that is a mount point is not to be replaced, but can be written.
        let kept = fs::rename(aside, &self.path).or_else(|_| fs::copy(aside, &self.path).map(drop));
        kept.or_else(|error| Err(error).context(self.leave()))
    }

    /// It will not be whole, or cannot be where it should. What there is of it is left where it is; what to say then.
    pub(crate) fn leave(mut self) -> String {
        let cannot = format!("cannot write {}", self.path.display());
        match self.aside.take_if(|_| self.length > 0) {
            Some(aside) => {
                under_way().retain(|other| *other != aside);
                format!("{cannot}; what was written is in {}", aside.display())
            }
            None => cannot,
        }
    }

    /// All of it at once.
    pub(crate) fn write(mut self, content: &[u8]) -> anyhow::Result<()> {
        self.add(content).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.keep()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(aside) = &self.aside {
            under_way().retain(|other| other != aside);
            let _ = fs::remove_file(aside);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_put_in_its_place_is_left_and_named() {
        let path = std::env::temp_dir().join(format!("output-test-{}", std::process::id()));
        let mut results = Aside::open(&path).unwrap();
        results.add(b"of hours\n").unwrap();
        // In the meantime.
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a file"), "").unwrap();
        let told = format!("{:#}", results.keep().unwrap_err());
        fs::remove_dir_all(&path).unwrap();
        let (_, left) = told.split_once("is in ").unwrap_or_else(|| panic!("{told}"));
        let left = left.split_once(": ").unwrap().0;
        assert_eq!(fs::read(left).unwrap(), b"of hours\n");
        fs::remove_file(left).unwrap();
        assert!(!under_way().contains(&PathBuf::from(left)));
    }

    #[test]
    fn of_lines_that_cannot_all_be_written_none_is() {
        let path = std::env::temp_dir().join(format!("output-test-full-{}", std::process::id()));
        let mut results = Aside::open(&path).unwrap();
        results.add(b"one\n").unwrap();
        let part = results.aside.clone().unwrap();
        // What can be read only cannot be written.
        let writable = std::mem::replace(&mut results.file, File::open(&part).unwrap());
        assert!(results.add(b"another\n").is_err());
        drop(writable);
        let told = results.leave();
        assert!(told.contains(&part.display().to_string()), "{told}");
        assert_eq!(fs::read(&part).unwrap(), b"one\n");
        fs::remove_file(&part).unwrap();
        // Where there is nothing of it nothing is left.
        let results = Aside::open(&path).unwrap();
        assert!(!results.leave().contains(".part") && !part.exists());
    }
}
