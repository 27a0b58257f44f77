//! The rules of meta, each by a test that says it.

#[cfg(test)]
mod bookies;
#[cfg(test)]
mod carried;
#[cfg(test)]
mod copies;
#[cfg(test)]
mod drains;
#[cfg(test)]
mod names;
#[cfg(test)]
mod queries;
#[cfg(test)]
mod random;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod shards;
#[cfg(test)]
mod topics;
#[cfg(test)]
mod world;
