const jackfield = @import("jackfield");

pub const panic = jackfield.panic;

comptime {
    jackfield.plugin(@This());
}

pub fn onMessage(_: jackfield.Context, _: jackfield.Message) !jackfield.Response {
    return .text("VERSION");
}
