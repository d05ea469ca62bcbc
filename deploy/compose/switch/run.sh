#!/bin/sh
# Open vSwitch with one bridge, whose ports are the panel's links. It keeps
# nothing: a switch that is started again is configured again, and the
# controller fills in the flows. The userspace datapath needs no kernel module.
set -eu
controller=$1
shift

export OVS_RUNDIR=/run/openvswitch OVS_LOGDIR=/run/openvswitch OVS_DBDIR=/run/openvswitch
db=$OVS_RUNDIR/conf.db
rm -rf "${OVS_RUNDIR:?}"/*
ovsdb-tool create "$db" /usr/share/openvswitch/vswitch.ovsschema
ovsdb-server "$db" --remote="punix:$OVS_RUNDIR/db.sock" -vsyslog:off -vfile:off --pidfile --detach --monitor

# Before the switch starts, because userspace TSO is read once. With it, veth
# ends keep their offloads.
ovs-vsctl --no-wait --timeout=10 -- init \
    -- set Open_vSwitch . other_config:userspace-tso-enable=true \
    -- add-br br0 \
    -- set Bridge br0 datapath_type=netdev fail_mode=secure \
        other_config:datapath-id=0000000000000001 other_config:disable-in-band=true \
    -- set-ssl /etc/shunt-tls/key.pem /etc/shunt-tls/cert.pem /etc/shunt-tls/ca.pem \
    -- set-controller br0 "ssl:$controller" \
    -- set Controller br0 connection_mode=out-of-band max_backoff=1000 inactivity_probe=5000

exec wire ports br0 "$@" -- ovs-vswitchd "unix:$OVS_RUNDIR/db.sock" -vsyslog:off -vfile:off -vconsole:info --pidfile
