"""Which disks are shared over a network: there, a file that several processes map into memory does not show them the same."""

from __future__ import annotations

from pathlib import Path

KINDS = frozenset(
    {"9p", "afp", "afs", "beegfs", "ceph", "cifs", "gfs2", "glusterfs", "gpfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs"}
    | {"panfs", "pvfs2", "smb2", "smb3", "smbfs", "vboxsf", "virtiofs", "webdav"}
)
"""Types of file systems, as the mount table calls them; those of FUSE are ``fuse.NAME``, and in a set of their own."""

FUSE_KINDS = frozenset(
    {"beegfs", "blobfuse", "blobfuse2", "ceph", "cephfs", "davfs2", "gcsfuse", "glusterfs", "goofys", "juicefs", "lustre", "mfs"}
    | {"mount-s3", "mountpoint-s3", "rclone", "s3fs", "s3ql", "seaweedfs", "sshfs", "weed"}
)


def shared_kind(path: str | Path) -> str | None:
    """Return the type of the network file system that a path lies on, such as ``nfs4``; None if the disk is this machine's own.

    Args:
        path: A file or folder; it need not be there yet.
    """
    import psutil

    place = Path(path).resolve()
    found, depth = "", -1
    for mount in psutil.disk_partitions(all=True):
        length = len(Path(mount.mountpoint).parts)
        # Of two mounts on one folder the later hides the earlier.
        if length >= depth and place.is_relative_to(mount.mountpoint):
            found, depth = mount.fstype.lower(), length
    name = found.removeprefix("fuse.")
    is_shared = name in FUSE_KINDS if found.startswith("fuse.") else found in KINDS
    return found if is_shared else None
