//! The atoms that are encoded or decoded often; the error fields' names are made where errors are encoded.

rustler::atoms! {
    ok,
    error,
    nil,
    wake,
    ready,
    // Scheduling
    adaptive,
    inline,
    dirty,
    // Engines
    fuel,
    epoch,
    pooling,
    on_demand,
    // Steps
    finished,
    yielded,
    host_call,
    answer,
    refused,
    waiting,
    failed,
    // Commands
    raise,
    read,
    write,
    size,
    grow,
    get_global,
    set_global,
    table_size,
    table_get,
    call,
    // Sources of imports
    host,
    export,
    nothing,
    // Values
    nan,
    infinity,
    neg_infinity,
    f32_bits,
    f64_bits,
    // Kinds of imports and exports
    function,
    memory,
    table,
    global,
    tag,
}
