//! The newer bindgen under the version number that nginx-sys asks for.

pub use newer::*;
