//! Where results go: a closed pipe or a full disk loses the text and never the verdict, and a file is replaced only by a
//! whole one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

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

/// A file of results under way: written aside, and put in its place when it is whole.
pub(crate) struct Aside {
    file: File,
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
                return Ok(Self { file, aside: None, path });
            }
            // One that must not be written is not to be replaced either.
            Ok(_) => drop(OpenOptions::new().append(true).open(&path).with_context(cannot)?),
            Err(_) => {}
        }
        let name = path.file_name().with_context(cannot)?.to_string_lossy();
        let aside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
        let file = File::create(&aside).with_context(cannot)?;
        Ok(Self { file, aside: Some(aside), path })
    }

    /// It is whole.
    pub(crate) fn keep(mut self) -> anyhow::Result<()> {
        let cannot = || format!("cannot write {}", self.path.display());
        self.file.flush().with_context(cannot)?;
        if let Some(aside) = &self.aside {
            fs::rename(aside, &self.path).with_context(cannot)?;
        }
        self.aside = None;
        Ok(())
    }

    /// All of it at once.
    pub(crate) fn write(mut self, content: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(content).with_context(|| format!("cannot write {}", self.path.display()))?;
        self.keep()
    }
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if let Some(aside) = &self.aside {
            let _ = fs::remove_file(aside);
        }
    }
}
