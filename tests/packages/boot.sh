#!/bin/bash
# boot.sh ROOT [PROGRAM ARGUMENT...]: makes ROOT the root of the new namespaces that it was started in (unshare -m -p -u -i -C)
# and runs the program there, by default systemd as their first process.
set -eu
root=$1
shift
mount --make-rprivate /
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero full random urandom tty; do
	touch dev/$device
	mount --bind /dev/$device dev/$device
done
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
pivot_root . mnt
umount -l mnt
[ $# -gt 0 ] || set -- /lib/systemd/systemd --system --unit=multi-user.target
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@"
