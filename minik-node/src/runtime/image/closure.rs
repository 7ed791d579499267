//! Which files a program needs to start: its interpreter and, transitively, its DT_NEEDED libraries, as ld.so
//! finds them in Debian's directories.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use goblin::container::{Container, Ctx};
use goblin::elf::dynamic::{DT_RPATH, DT_RUNPATH};
use goblin::elf::header::{EI_CLASS, ELFCLASS64};
use goblin::elf::program_header::PT_INTERP;
use goblin::elf::{Dynamic, Elf, Header, ProgramHeader};
use goblin::strtab::Strtab;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// Reading the file.
    #[error("read")]
    Read(#[source] io::Error),
    /// It is no ELF file.
    #[error("parse ELF")]
    Parse(#[source] goblin::error::Error),
    /// A library that no directory has.
    #[error("library {0} not found")]
    Missing(String),
}

/// Directories that ld.so searches on Debian, multiarch first.
const DIRECTORIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib",
];

/// The program and everything it needs, each by the path that ld.so or the kernel asks for. A script needs
/// nothing more than itself.
pub fn closure(program: &Path) -> Result<BTreeSet<PathBuf>, (PathBuf, ClosureError)> {
    let mut found = BTreeSet::new();
    let mut left = vec![program.to_owned()];
    while let Some(path) = left.pop() {
        if !found.insert(path.clone()) {
            continue;
        }
        let needs = needs(&path).map_err(|error| (path.clone(), error))?;
        left.extend(needs);
    }
    Ok(found)
}

fn needs(path: &Path) -> Result<Vec<PathBuf>, ClosureError> {
    let file = fs::File::open(path).map_err(ClosureError::Read)?;
    // SAFETY: a file that is cut short meanwhile would fault; package managers and linkers replace files instead.
    let bytes = unsafe { memmap2::Mmap::map(&file) }.map_err(ClosureError::Read)?;
    if !bytes.starts_with(goblin::elf::header::ELFMAG) {
        return Ok(Vec::new());
    }
    let (interpreter, libraries, own) = dynamic(&bytes).map_err(ClosureError::Parse)?;
    let origin = path.parent().unwrap_or(Path::new("/")).display().to_string();
    let own: Vec<PathBuf> = own
        .iter()
        .map(|dir| PathBuf::from(dir.replace("$ORIGIN", &origin)))
        .collect();
    let mut needs: Vec<PathBuf> = interpreter.into_iter().map(PathBuf::from).collect();
    for library in libraries {
        let candidates = own
            .iter()
            .map(PathBuf::as_path)
            .chain(DIRECTORIES.iter().map(Path::new));
        let found = candidates.map(|dir| dir.join(&library)).find(|path| path.is_file());
        needs.push(found.ok_or(ClosureError::Missing(library))?);
    }
    Ok(needs)
}

/// Interpreter, needed libraries and search directories. Reads the dynamic section alone: symbol tables of a
/// large binary take longer than all else.
fn dynamic(bytes: &[u8]) -> goblin::error::Result<(Option<String>, Vec<String>, Vec<String>)> {
    let header = Elf::parse_header(bytes)?;
    let context = Ctx::new(container(&header), header.endianness()?);
    let segments = ProgramHeader::parse(
        bytes,
        usize::try_from(header.e_phoff).unwrap_or(usize::MAX),
        usize::from(header.e_phnum),
        context,
    )?;
    let interpreter = segments
        .iter()
        .find(|segment| segment.p_type == PT_INTERP)
        .and_then(|segment| bytes.get(segment.file_range()))
        .map(|text| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
    let Some(dynamic) = Dynamic::parse(bytes, &segments, context)? else {
        return Ok((interpreter, Vec::new(), Vec::new()));
    };
    let texts = Strtab::parse(bytes, dynamic.info.strtab, dynamic.info.strsz, 0)?;
    let libraries = dynamic.get_libraries(&texts).into_iter().map(str::to_owned).collect();
    let paths = dynamic
        .dyns
        .iter()
        .filter(|entry| matches!(entry.d_tag, DT_RUNPATH | DT_RPATH))
        .filter_map(|entry| texts.get_at(usize::try_from(entry.d_val).ok()?))
        .flat_map(|paths| paths.split(':'))
        .map(str::to_owned)
        .collect();
    Ok((interpreter, libraries, paths))
}

fn container(header: &Header) -> Container {
    if header.e_ident[EI_CLASS] == ELFCLASS64 {
        Container::Big
    } else {
        Container::Little
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_needs_its_interpreter_and_libc() {
        let files = closure(Path::new("/bin/sh")).unwrap();
        let has = |part: &str| files.iter().any(|path| path.to_string_lossy().contains(part));
        assert!(has("/ld-linux") && has("libc.so.6"), "{files:?}");
    }

    #[test]
    fn every_needed_file_is_named_once_and_exists() {
        let files = closure(Path::new("/proc/self/exe")).unwrap();
        assert!(files.len() > 2 && files.iter().all(|path| path.is_file()), "{files:?}");
    }

    #[test]
    fn a_script_needs_only_itself() {
        let script = tempfile::NamedTempFile::new().unwrap();
        fs::write(script.path(), "#!/bin/sh\n").unwrap();
        assert_eq!(closure(script.path()).unwrap().len(), 1);
    }
}
