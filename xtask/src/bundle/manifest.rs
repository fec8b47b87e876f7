//! The manifest: the device tree that Hafnium reads, with Margay's additions.

use super::{Properties, Spec, Vm, parse_size};
use anyhow::{Context, Result, anyhow, bail};
use toml::Value;
use vm_fdt::FdtWriter;

/// The manifest of `spec` as a device tree blob.
pub fn write(spec: &Spec) -> Result<Vec<u8>> {
    let mut hypervisor = Properties::from([("compatible".into(), "hafnium,hafnium".into())]);
    hypervisor.extend(spec.hypervisor.clone());
    let vms = spec
        .vm
        .iter()
        .enumerate()
        .map(|(index, vm)| properties(vm, index == 0))
        .collect::<Result<Vec<_>>>()?;
    manifest(&hypervisor, &vms).map_err(|error| anyhow!("cannot write the manifest: {error}"))
}

fn manifest(hypervisor: &Properties, vms: &[Properties]) -> Result<Vec<u8>> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    let node = fdt.begin_node("hypervisor")?;
    put_all(&mut fdt, hypervisor)?;
    for (index, vm) in vms.iter().enumerate() {
        let node = fdt.begin_node(&format!("vm{}", index + 1))?;
        put_all(&mut fdt, vm)?;
        fdt.end_node(node)?;
    }
    fdt.end_node(node)?;
    fdt.end_node(root)?;
    Ok(fdt.finish()?)
}

/// Any device tree: properties, and tables for child nodes.
pub fn tree(root: &toml::Table) -> Result<Vec<u8>> {
    let mut fdt = FdtWriter::new()?;
    node(&mut fdt, "", root)?;
    Ok(fdt.finish()?)
}

fn node(fdt: &mut FdtWriter, name: &str, content: &toml::Table) -> Result<()> {
    let open = fdt.begin_node(name).with_context(|| format!("node {name}"))?;
    for (name, value) in content.iter().filter(|(_, value)| !value.is_table()) {
        put(fdt, name, value).with_context(|| format!("property {name}"))?;
    }
    for (name, value) in content {
        if let Value::Table(child) = value {
            node(fdt, name, child)?;
        }
    }
    Ok(fdt.end_node(open)?)
}

/// The properties of a VM's node. A secondary has one vCPU if nothing else is said; the primary has every
/// core.
fn properties(vm: &Vm, primary: bool) -> Result<Properties> {
    let mut all = Properties::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            all.insert(name.into(), value);
        }
    };
    let text = |value: &Option<String>| value.clone().map(Value::String);
    put("debug_name", Some(Value::String(vm.name.clone())));
    put("kernel_filename", text(&vm.kernel));
    put("ramdisk_filename", text(&vm.ramdisk));
    put("fdt_filename", text(&vm.fdt));
    let vcpus = if primary { vm.vcpus } else { vm.vcpus.or(Some(1)) };
    put("vcpu_count", vcpus.map(|count| Value::Integer(count.into())));
    put("mem_size", vm.memory.as_ref().map(|memory| size(&vm.name, memory)).transpose()?);
    put("margay,bootargs", text(&vm.bootargs));
    all.extend(vm.properties.clone());
    Ok(all)
}

fn size(vm: &str, memory: &Value) -> Result<Value> {
    let bytes = match memory {
        Value::Integer(bytes) => Some(*bytes),
        Value::String(text) => parse_size(text).and_then(|bytes| i64::try_from(bytes).ok()),
        _ => None,
    };
    bytes
        .map(Value::Integer)
        .with_context(|| format!("VM {vm}: memory = {memory} is not a size like \"128M\""))
}

fn put_all(fdt: &mut FdtWriter, properties: &Properties) -> Result<()> {
    for (name, value) in properties {
        put(fdt, name, value).with_context(|| format!("property {name}"))?;
    }
    Ok(())
}

/// A string, a number of one or two cells, a list of either, or a property that is just there.
fn put(fdt: &mut FdtWriter, name: &str, value: &Value) -> Result<()> {
    match value {
        Value::Boolean(false) => {}
        Value::Boolean(true) => fdt.property_null(name)?,
        Value::String(text) => fdt.property_string(name, text)?,
        Value::Integer(number) => match u32::try_from(*number) {
            Ok(cell) => fdt.property_u32(name, cell)?,
            Err(_) => fdt.property_u64(name, *number as u64)?,
        },
        Value::Array(list) if list.iter().all(Value::is_str) => {
            let texts = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            fdt.property_string_list(name, texts)?;
        }
        Value::Array(list) => {
            let cell = |value: &Value| value.as_integer().and_then(|number| u32::try_from(number).ok());
            let cells: Option<Vec<u32>> = list.iter().map(cell).collect();
            fdt.property_array_u32(name, &cells.context("a list holds strings or 32-bit numbers")?)?;
        }
        other => bail!("{other} has no place in a device tree"),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &str) -> Vec<u8> {
        write(&toml::from_str(text).unwrap()).unwrap()
    }

    fn contains(blob: &[u8], part: &[u8]) -> bool {
        blob.windows(part.len()).any(|window| window == part)
    }

    #[test]
    fn keys_become_hafniums_properties() {
        let blob = blob(
            "[[vm]]\nname = 'sched'\nkernel = 's.img'\n\
             [[vm]]\nname = 'one'\nvcpus = 2\nmemory = '128M'\nbootargs = 'a=b'\n",
        );
        assert_eq!(blob[..4], [0xd0, 0x0d, 0xfe, 0xed]);
        for part in [
            "hafnium,hafnium",
            "vm1",
            "vm2",
            "debug_name",
            "kernel_filename",
            "s.img",
            "margay,bootargs",
            "a=b",
        ] {
            assert!(contains(&blob, part.as_bytes()), "{part}");
        }
        assert!(contains(&blob, &(128u32 << 20).to_be_bytes()));
        assert!(!contains(&blob, b"ramdisk_filename"));
    }

    #[test]
    fn other_properties_replace_and_remove() {
        let blob = blob(
            "[[vm]]\nname = 'x'\nmemory = '8G'\nkernel = 'k'\n\
             properties = { kernel_filename = false, flag = true, ids = [1, 0x01020304] }\n",
        );
        assert!(contains(&blob, &(8u64 << 30).to_be_bytes()));
        assert!(!contains(&blob, b"kernel_filename"));
        assert!(contains(&blob, b"flag"));
        assert!(contains(&blob, &[0, 0, 0, 1, 1, 2, 3, 4]));
    }

    #[test]
    fn nonsense_is_a_sentence() {
        let spec = toml::from_str("[[vm]]\nname = 'x'\nmemory = 'lots'\n").unwrap();
        assert!(write(&spec).unwrap_err().to_string().contains("VM x: memory"));
    }
}
