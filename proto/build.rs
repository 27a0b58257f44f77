//! Generates the code of every `.proto` file, without protoc.
//!
//! Four runs: the public messages as clients see them (`v1`), the same with batches left encoded (`raw::v1`: only
//! what a batch is part of is generated anew, all else is shared with `v1`), the internal packages, and the part of
//! etcd's API that meta calls.
#![expect(clippy::disallowed_methods, reason = "a build script reads its inputs")]

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use prost::Message;
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// The package that clients see.
const PUBLIC: &str = "ledgerline.v1";

/// etcd's package.
const ETCD: &str = "etcdserverpb";

/// The message that servers pass on unopened.
const BATCH: &str = ".ledgerline.v1.MessageBatch";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=ledgerline");
    println!("cargo:rerun-if-changed=google");
    println!("cargo:rerun-if-changed=etcd");

    let mut files = Vec::new();
    find_protos(Path::new("ledgerline"), &mut files)?;
    find_protos(Path::new("etcd"), &mut files)?;
    files.sort();
    let all = protox::compile(&files, ["."])?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let public = only(&all, |package| package == PUBLIC);
    let internal = only(&all, |package| {
        package.starts_with("ledgerline.") && package != PUBLIC
    });
    // As they were written, for reflection; the rewriting below is for our own code only.
    fs::write(out.join("public.bin"), public.encode_to_vec())?;
    fs::write(out.join("internal.bin"), internal.encode_to_vec())?;
    view(&out, public.clone())?;
    raw(&out, public)?;
    internals(&out, internal)?;
    etcd(&out, only(&all, |package| package == ETCD))
}

fn find_protos(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    for item in fs::read_dir(folder)? {
        let path = item?.path();
        if path.is_dir() {
            find_protos(&path, into)?;
        } else if path.extension().is_some_and(|ending| ending == "proto") {
            into.push(path);
        }
    }
    Ok(())
}

/// The files of the packages wanted, and of Google's, which all may import.
fn only(all: &FileDescriptorSet, wanted: impl Fn(&str) -> bool) -> FileDescriptorSet {
    let file = all.file.iter().filter(|file| {
        let package = file.package();
        package.starts_with("google.") || wanted(package)
    });
    let file = file.cloned();
    FileDescriptorSet {
        file: file.collect(),
    }
}

fn generator(out: &Path, folder: &str) -> io::Result<tonic_prost_build::Builder> {
    let folder = out.join(folder);
    fs::create_dir_all(&folder)?;
    Ok(tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".") // The same message is always the same bytes.
        .emit_rerun_if_changed(false)
        .extern_path(".google.rpc.Status", "::tonic_types::Status")
        .out_dir(folder))
}

/// What clients see: every message, and the clients.
fn view(out: &Path, files: FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    generator(out, "view")?
        .build_server(false)
        .compile_fds(files)?;
    Ok(())
}

/// The same with each `MessageBatch` field as bytes, and the servers. In protobuf both have one wire form.
fn raw(out: &Path, mut files: FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    let opened = holders_of_batches(&files);
    let mut generator = generator(out, "raw")?;
    for file in files.file.iter().filter(|file| file.package() == PUBLIC) {
        let messages = file.message_type.iter().map(DescriptorProto::name);
        let enums = file.enum_type.iter().map(|one| one.name());
        for name in messages.chain(enums) {
            let full = format!(".{PUBLIC}.{name}");
            if !opened.contains(&full) {
                generator = generator.extern_path(full, format!("crate::v1::{name}"));
            }
        }
    }
    for field in fields(&mut files.file) {
        if field.type_name.as_deref() == Some(BATCH) {
            field.r#type = Some(Type::Bytes.into());
            field.type_name = None;
        }
    }
    generator.compile_fds(files)?;
    Ok(())
}

/// Every message that holds a batch, itself or through others. Only these differ between the two views.
fn holders_of_batches(files: &FileDescriptorSet) -> BTreeSet<String> {
    let mut holders = BTreeSet::new();
    loop {
        let before = holders.len();
        for message in files.file.iter().flat_map(|file| &file.message_type) {
            let holds = message.field.iter().any(|field| {
                let inner = field.type_name();
                inner == BATCH || holders.contains(inner)
            });
            if holds {
                holders.insert(format!(".{PUBLIC}.{}", message.name()));
            }
        }
        if holders.len() == before {
            return holders;
        }
    }
}

fn fields(
    files: &mut [FileDescriptorProto],
) -> impl Iterator<Item = &mut prost_types::FieldDescriptorProto> {
    files
        .iter_mut()
        .flat_map(|file| &mut file.message_type)
        .flat_map(|message| &mut message.field)
}

/// What nodes say among themselves.
fn internals(out: &Path, files: FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    generator(out, "internal")?.compile_fds(files)?;
    Ok(())
}

/// What meta asks of etcd: clients only.
fn etcd(out: &Path, files: FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    generator(out, "etcd")?
        .build_server(false)
        .compile_fds(files)?;
    Ok(())
}
