//! Builds an image's tree: hard links to the machine's files where the file system allows, copies elsewhere.
//!
//! A tree's name carries a digest of what it is made of (paths, sizes and modification times of the sources,
//! text of the rest), so an upgraded package gives a new tree, and a tree that is there is right. It appears by
//! one rename, so agents may race.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::catalog::{Program, Recipe};
use super::closure::closure;
use super::content::Content;
use super::{Image, ImageError};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MINIK: &str = "usr/bin/minik";

/// Builds `recipe` under `dir` unless it is there, or its stand-in when a program is missing.
pub fn build(dir: &Path, recipe: &Recipe) -> Result<Image, ImageError> {
    if let Some(missing) = recipe.programs.iter().find(|program| !Path::new(program.path).exists()) {
        let Some(stand_in) = recipe.stand_in else {
            return Err(missing_error(recipe, missing));
        };
        let mut image = build(dir, stand_in)?;
        image.id = format!("minik://{}", stand_in.name);
        image.stand_in = Some(format!(
            "{} is not installed (apt-get install {})",
            missing.path, missing.package
        ));
        return Ok(image);
    }
    let sources = sources(recipe)?;
    let content = (recipe.content)();
    let applets = if recipe.busybox { applets() } else { Vec::new() };
    let digest = digest(recipe, &sources, &content)?;
    let rootfs = dir.join(format!("{}-{}", recipe.name.replace('/', "-"), &digest[..16]));
    if !rootfs.exists() {
        tree(dir, &rootfs, &sources, &content, &applets)?;
    }
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    Ok(Image {
        name: recipe.name.to_owned(),
        id: format!("minik://{}@sha256:{digest}", recipe.name),
        rootfs,
        entrypoint: texts(recipe.entrypoint),
        cmd: texts(recipe.cmd),
        env: vec![PATH.to_owned()],
        working_dir: "/".to_owned(),
        stop_signal: recipe.stop_signal,
        stand_in: None,
    })
}

fn missing_error(recipe: &Recipe, missing: &Program) -> ImageError {
    ImageError::Missing {
        image: recipe.name.to_owned(),
        program: missing.path.to_owned(),
        package: missing.package.to_owned(),
    }
}

/// Where each file goes in the tree, and where it comes from.
fn sources(recipe: &Recipe) -> Result<BTreeMap<PathBuf, PathBuf>, ImageError> {
    let mut sources = BTreeMap::new();
    let mut programs: Vec<(PathBuf, PathBuf)> = recipe
        .programs
        .iter()
        .chain(recipe.extras.iter().filter(|program| Path::new(program.path).exists()))
        .map(|program| (place(Path::new(program.path)), PathBuf::from(program.path)))
        .collect();
    if recipe.minik {
        let own = std::env::current_exe().map_err(|source| write_error(Path::new("/proc/self/exe"), source))?;
        programs.push((PathBuf::from(MINIK), own));
    }
    for (target, program) in programs {
        let files = closure(&program).map_err(|(path, source)| ImageError::Closure {
            path,
            source: Arc::new(source),
        })?;
        sources.extend(
            files
                .into_iter()
                .filter(|path| *path != program)
                .map(|path| (place(&path), path)),
        );
        sources.insert(target, program);
    }
    for content in (recipe.content)() {
        if let Content::Machine { path } = content {
            let source = Path::new("/").join(path);
            if source.exists() {
                sources.insert(place(&source), source);
            }
        }
    }
    Ok(sources)
}

/// Debian's merged `/usr`: `/bin`, `/sbin`, `/lib` and `/lib64` are links in our trees too.
fn place(path: &Path) -> PathBuf {
    let path = path.strip_prefix("/").unwrap_or(path);
    if path.starts_with("bin") || path.starts_with("sbin") || path.starts_with("lib") || path.starts_with("lib64") {
        return Path::new("usr").join(path);
    }
    path.to_owned()
}

fn digest(recipe: &Recipe, sources: &BTreeMap<PathBuf, PathBuf>, content: &[Content]) -> Result<String, ImageError> {
    let mut hash = Sha256::new();
    hash.update(recipe.name);
    hash.update(format!("{content:?}"));
    for (target, source) in sources {
        let metadata = fs::metadata(source).map_err(|error| write_error(source, error))?;
        hash.update(format!(
            "{target:?} {source:?} {} {} {}\n",
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec()
        ));
    }
    Ok(HEXLOWER.encode(&hash.finalize()))
}

/// The commands that this machine's busybox has; none when it cannot be asked.
fn applets() -> Vec<String> {
    match Command::new("/bin/busybox").arg("--list").env_clear().output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout)
            .lines()
            .map(str::to_owned)
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "ask busybox for its commands");
            Vec::new()
        }
    }
}

fn tree(
    dir: &Path,
    rootfs: &Path,
    sources: &BTreeMap<PathBuf, PathBuf>,
    content: &[Content],
    applets: &[String],
) -> Result<(), ImageError> {
    fs::create_dir_all(dir).map_err(|source| write_error(dir, source))?;
    let name = rootfs.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.{}", std::process::id()));
    match fs::remove_dir_all(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(write_error(&temporary, error)),
        _ => {}
    }
    fill(&temporary, sources, content, applets)?;
    match fs::rename(&temporary, rootfs) {
        Ok(()) => Ok(()),
        // Another agent was faster, and what it made is the same.
        Err(_) if rootfs.exists() => fs::remove_dir_all(&temporary).map_err(|source| write_error(&temporary, source)),
        Err(error) => Err(write_error(rootfs, error)),
    }
}

fn fill(
    root: &Path,
    sources: &BTreeMap<PathBuf, PathBuf>,
    content: &[Content],
    applets: &[String],
) -> Result<(), ImageError> {
    for dir in ["bin", "sbin", "lib", "lib64"] {
        make(&root.join("usr").join(dir), |path| fs::create_dir_all(path))?;
        make(&root.join(dir), |path| symlink(format!("usr/{dir}"), path))?;
    }
    for (target, source) in sources {
        make(&parented(root, target)?, |path| link_or_copy(source, path))?;
    }
    for entry in content {
        match entry {
            Content::Directory { path, shared } => make(&parented(root, Path::new(path))?, |path| {
                fs::create_dir_all(path)?;
                let mode = if *shared { 0o1777 } else { 0o755 };
                fs::set_permissions(path, fs::Permissions::from_mode(mode))
            })?,
            Content::File { path, text } => make(&parented(root, Path::new(path))?, |path| fs::write(path, text))?,
            Content::Link { path, target } => make(&parented(root, Path::new(path))?, |path| symlink(target, path))?,
            Content::Machine { .. } => {}
        }
    }
    for applet in applets {
        let taken = |dir: &str| root.join("usr").join(dir).join(applet).symlink_metadata().is_ok();
        if !taken("bin") && !taken("sbin") {
            make(&root.join("usr/bin").join(applet), |path| symlink("busybox", path))?;
        }
    }
    Ok(())
}

fn parented(root: &Path, target: &Path) -> Result<PathBuf, ImageError> {
    let path = root.join(target);
    if let Some(parent) = path.parent() {
        make(parent, |parent| fs::create_dir_all(parent))?;
    }
    Ok(path)
}

fn link_or_copy(source: &Path, target: &Path) -> io::Result<()> {
    let source = fs::canonicalize(source)?;
    fs::hard_link(&source, target).or_else(|_| fs::copy(&source, target).map(drop))
}

fn make(path: &Path, operation: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), ImageError> {
    operation(path).map_err(|source| write_error(path, source))
}

fn write_error(path: &Path, source: io::Error) -> ImageError {
    ImageError::Write {
        path: path.to_owned(),
        source: Arc::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalog::lookup;
    use super::*;

    #[test]
    fn a_tree_is_built_once_and_its_programs_are_complete() {
        let dir = tempfile::tempdir().unwrap();
        let image = build(dir.path(), &lookup("busybox").unwrap()).unwrap();
        assert!(image.rootfs.join("bin/sh").exists() && image.rootfs.join("lib64").exists());
        let before = fs::metadata(&image.rootfs).unwrap().ino();
        assert_eq!(build(dir.path(), &lookup("busybox:1").unwrap()).unwrap(), image);
        assert_eq!(fs::metadata(&image.rootfs).unwrap().ino(), before);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "nothing temporary is left"
        );
        let run = Command::new("chroot")
            .arg(&image.rootfs)
            .args(["/bin/sh", "-c", "echo ok"])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&run.stdout),
            "ok\n",
            "{}",
            String::from_utf8_lossy(&run.stderr)
        );
    }

    #[test]
    fn a_missing_program_names_its_package_or_gives_the_stand_in() {
        let dir = tempfile::tempdir().unwrap();
        let absent: &[Program] = &[Program {
            path: "/nonexistent/nginx",
            package: "nginx-light",
        }];
        let bare = Recipe {
            programs: absent,
            stand_in: None,
            ..lookup("nginx").unwrap()
        };
        let error = build(dir.path(), &bare).unwrap_err().to_string();
        assert!(error.contains("apt-get install nginx-light"), "{error}");
        let image = build(
            dir.path(),
            &Recipe {
                programs: absent,
                ..lookup("nginx").unwrap()
            },
        )
        .unwrap();
        assert_eq!(image.id, "minik://stand-in/nginx");
        assert!(image.stand_in.unwrap().contains("nginx-light"));
    }
}
