from jackfield import plugin


def message(event, context):
    return "answer-0"


handler = plugin(message=message)
