//! Built-in images: directory trees made from this machine's Debian packages, each built once, at first use.
//!
//! Owns the image directory. Names are normalised: registry, `library/`, tag and digest do not matter, since
//! there is one version of everything, the machine's. Nothing is ever downloaded.

mod build;
mod catalog;
mod closure;
mod content;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

pub use catalog::{Recipe, lookup, names};
use tokio::sync::OnceCell;

/// An image, ready to be a container's lower layers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Name in the catalogue, or `stand-in/NAME`.
    pub name: String,
    /// For `imageID`: `minik://nginx@sha256:…` or `minik://stand-in/nginx`.
    pub id: String,
    /// Directory trees, uppermost first.
    pub layers: Vec<PathBuf>,
    /// What runs in front of the Pod's `args` unless the Pod says `command`.
    pub entrypoint: Vec<String>,
    /// Arguments unless the Pod says `args` or `command`.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory unless the Pod says one.
    pub working_dir: String,
    /// Number of the signal that asks the main process to stop.
    pub stop_signal: i32,
    /// Why this is not the real program, when it is a stand-in.
    pub stand_in: Option<String>,
}

/// Why there is no such image.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImageError {
    /// The name is not in the catalogue.
    #[error("image {image:?} is not built in and minik downloads nothing; there are: {}", names().join(", "))]
    Unknown {
        /// As the Pod spells it.
        image: String,
    },
    /// A program that the image is made of is not on this machine.
    #[error("image {image:?} is made from this machine's programs and {program} is missing: apt-get install {package}")]
    Missing {
        /// Name in the catalogue.
        image: String,
        /// File name of the program.
        program: String,
        /// Debian package that has it.
        package: String,
    },
    /// Reading a program's dependencies.
    #[error("read dependencies of {path}")]
    Closure {
        /// Program or library.
        path: PathBuf,
        /// Cause.
        #[source]
        source: Arc<closure::ClosureError>,
    },
    /// Writing the tree.
    #[error("write {path}")]
    Write {
        /// File or directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: Arc<std::io::Error>,
    },
}

/// The images of this machine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Images {
    dir: Arc<Path>,
    built: Arc<Mutex<BTreeMap<String, Build>>>,
}

/// One build, awaited by everybody who needs the image.
type Build = Arc<OnceCell<Arc<Image>>>;

impl Images {
    /// Over the directory `dir`, shared by all agents of the machine and made at first use.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.into(),
            built: Arc::default(),
        }
    }

    /// Finds the image that a Pod calls `image`, building it when it is not there. A failure is not remembered.
    pub async fn get(&self, image: &str) -> Result<Arc<Image>, ImageError> {
        let recipe = lookup(image).ok_or_else(|| ImageError::Unknown {
            image: image.to_owned(),
        })?;
        let cell = {
            let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(built.entry(recipe.name.to_owned()).or_default())
        };
        let build = || async {
            let dir = Arc::clone(&self.dir);
            let name = recipe.name;
            match tokio::task::spawn_blocking(move || build::build(&dir, &recipe)).await {
                Ok(result) => result.map(Arc::new),
                Err(error) => Err(ImageError::Write {
                    path: self.dir.join(name),
                    source: Arc::new(error.into()),
                }),
            }
        };
        cell.get_or_try_init(build).await.map(Arc::clone)
    }
}
