//! Builds an image's trees: hard links to the machine's files where the file system allows, copies elsewhere.
//!
//! An image is one tree of its own, and under it, where busybox gives the commands that no program gives, a tree of
//! several hundred links to busybox that all images share. A tree's name carries a digest of what it is made of (paths,
//! sizes and modification times of the sources, text of the rest), so an upgraded package gives a new tree, and a tree
//! that is there is right. It appears by one rename; agents that want the same one wait for whoever came first.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use data_encoding::HEXLOWER;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest, Sha256};

use super::catalog::{Program, Recipe};
use super::closure::closure;
use super::content::Content;
use super::{Image, ImageError};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const MINIK: &str = "usr/bin/minik";
const BUSYBOX: &str = "/bin/busybox";
/// The tree of links to busybox.
const APPLETS: &str = "busybox-applets";

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
    let digest = digest(recipe.name, &sources, &content)?;
    let mut layers = vec![ensure_tree(dir, recipe.name, &digest, |root| {
        fill(root, &sources, &content)
    })?];
    if recipe.busybox {
        let busybox = BTreeMap::from([(place(Path::new(BUSYBOX)), PathBuf::from(BUSYBOX))]);
        let digest = self::digest(APPLETS, &busybox, &[])?;
        layers.push(ensure_tree(dir, APPLETS, &digest, fill_applets)?);
    }
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let id = match recipe.part {
        Some(_) => format!("minik://stand-in/{}", recipe.name),
        None => format!("minik://{}@sha256:{digest}", recipe.name),
    };
    Ok(Image {
        name: recipe.name.to_owned(),
        id,
        layers,
        entrypoint: texts(recipe.entrypoint),
        cmd: texts(recipe.cmd),
        env: vec![PATH.to_owned()],
        working_dir: "/".to_owned(),
        stop_signal: recipe.stop_signal,
        stand_in: recipe.part.map(str::to_owned),
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

fn digest(name: &str, sources: &BTreeMap<PathBuf, PathBuf>, content: &[Content]) -> Result<String, ImageError> {
    let mut hash = Sha256::new();
    hash.update(name);
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

/// The tree of this name and digest, made by `fill` unless it is there.
fn ensure_tree(
    dir: &Path,
    name: &str,
    digest: &str,
    fill: impl FnOnce(&Path) -> Result<(), ImageError>,
) -> Result<PathBuf, ImageError> {
    let name = format!("{}-{}", name.replace('/', "-"), &digest[..16]);
    let tree = dir.join(&name);
    if tree.exists() {
        return Ok(tree);
    }
    make(dir, |dir| fs::create_dir_all(dir))?;
    // On the directory itself: nothing is left behind, and the kernel lets go for whoever dies.
    let _builder = File::open(dir)
        .and_then(|dir| Flock::lock(dir, FlockArg::LockExclusive).map_err(|(_, errno)| errno.into()))
        .map_err(|source| write_error(dir, source))?;
    if tree.exists() {
        return Ok(tree);
    }
    let temporary = dir.join(format!(".{name}"));
    match fs::remove_dir_all(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(write_error(&temporary, error)),
        // What a builder that died has left.
        _ => {}
    }
    fill(&temporary)?;
    make(&tree, |tree| fs::rename(&temporary, tree))?;
    Ok(tree)
}

/// Links for the commands that this machine's busybox has, and the links without which `/bin` would not lead to them.
fn fill_applets(root: &Path) -> Result<(), ImageError> {
    merge_usr(root)?;
    let output = Command::new(BUSYBOX)
        .arg("--list")
        .env_clear()
        .output()
        .map_err(|source| write_error(Path::new(BUSYBOX), source))?;
    let listed = String::from_utf8_lossy(&output.stdout);
    // busybox lists itself, and is in the layer above.
    for applet in listed.lines().filter(|applet| *applet != "busybox") {
        make(&root.join("usr/bin").join(applet), |path| symlink("busybox", path))?;
    }
    Ok(())
}

/// `/bin` and its like lead into `/usr`.
fn merge_usr(root: &Path) -> Result<(), ImageError> {
    for dir in ["bin", "sbin", "lib", "lib64"] {
        make(&root.join("usr").join(dir), |path| fs::create_dir_all(path))?;
        make(&root.join(dir), |path| symlink(format!("usr/{dir}"), path))?;
    }
    Ok(())
}

fn fill(root: &Path, sources: &BTreeMap<PathBuf, PathBuf>, content: &[Content]) -> Result<(), ImageError> {
    merge_usr(root)?;
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
            Content::File { path, text } => make(&parented(root, Path::new(path))?, |path| write(path, text))?,
            Content::Script { path, text } => make(&parented(root, Path::new(path))?, |path| {
                write(path, text)?;
                fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            })?,
            // A name for a program that this machine does not have would hide busybox's own.
            Content::Link { path, target } if !leads(root, path, target) => {}
            Content::Link { path, target } => make(&parented(root, Path::new(path))?, |path| symlink(target, path))?,
            Content::Machine { .. } => {}
        }
    }
    Ok(())
}

/// Whether a link leads somewhere: out of the tree, which is the container's affair, or to what is in it.
fn leads(root: &Path, path: &str, target: &str) -> bool {
    let folder = root.join(path).parent().map(Path::to_owned).unwrap_or_default();
    target.starts_with('/') || folder.join(target).exists()
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
    fs::hard_link(&source, target).or_else(|_| {
        fs::copy(&source, target)?;
        File::open(target)?.sync_all()
    })
}

/// A tree that has its name is complete, after a power cut too: the name must not be on disk before what it names.
fn write(path: &Path, text: &str) -> io::Result<()> {
    fs::write(path, text)?;
    File::open(path)?.sync_all()
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
    fn trees_are_built_once_whoever_asks_and_their_programs_are_complete() {
        let dir = tempfile::tempdir().unwrap();
        // What a builder that was killed leaves.
        let recipe = lookup("busybox").unwrap();
        let half = build(dir.path(), &recipe).unwrap();
        fs::rename(
            &half.layers[0],
            dir.path()
                .join(format!(".{}", half.layers[0].file_name().unwrap().display())),
        )
        .unwrap();

        let images: Vec<Image> = std::thread::scope(|scope| {
            let builders: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| build(dir.path(), &lookup("busybox:1").unwrap()).unwrap()))
                .collect();
            builders.into_iter().map(|builder| builder.join().unwrap()).collect()
        });
        assert!(images.iter().all(|image| *image == half));
        let [own, applets] = &images[0].layers[..] else {
            panic!("two layers")
        };
        assert!(own.join("lib64").exists() && own.join("bin/busybox").exists());
        assert_eq!(fs::read_link(applets.join("bin/sh")).unwrap(), Path::new("busybox"));
        assert!(
            applets.join("bin/busybox").symlink_metadata().is_err(),
            "the program is the layer's above"
        );
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            2,
            "nothing temporary is left"
        );
        let run = Command::new("chroot")
            .arg(own)
            .args(["/bin/busybox", "sh", "-c", "echo ok"])
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
