"""What published bypasses of pickle scanners call, by the number of their advisory."""

GADGETS: dict[str, str] = {
    "CVE-2025-1716": "pip:main pip._internal:main pip._internal.cli.main:main",
    "CVE-2025-10157": "asyncio.unix_events:_UnixSubprocessTransport._start asyncio.unix_events:DefaultEventLoopPolicy",
    "CVE-2026-56315": "uuid:_get_command_stdout _osx_support:_read_output _osx_support:_find_build_tool "
    "_aix_support:_read_cmd_output imaplib:IMAP4_stream _pyrepl.pager:pipe_pager "
    "test.support.script_helper:assert_python_ok",
    "GHSA-vvpj-8cmc-gx39": "pkgutil:resolve_name",
    "GHSA-97f8-7cmv-76j2": "builtins:eval __builtin__:eval",
    "GHSA-84r2-jw7c-4r5q": "operator:methodcaller _operator:methodcaller",
    "GHSA-955r-x9j8-7rhh": "operator:attrgetter _operator:attrgetter operator:itemgetter",
    "GHSA-4675-36f9-wf6r": "ctypes:CDLL ctypes:WinDLL ctypes.util:find_library ctypes:pythonapi.PyRun_SimpleString",
    "GHSA-vqmv-47xg-9wpr": "pty:spawn",
    "GHSA-m273-6v24-x4m4": "distutils.file_util:write_file distutils.spawn:spawn "
    "setuptools._distutils.file_util:write_file",
    "GHSA-m7j5-r2p5-c39r": "logging:FileHandler logging.config:fileConfig",
    "GHSA-9726-w42j-3qjr": "io:FileIO _io:FileIO urllib.request:urlopen http.client:HTTPSConnection",
    "GHSA-9m3x-qqw2-h32h": "types:CodeType types:FunctionType",
    "GHSA-r8g5-cgf2-4m4m": "numpy.f2py.crackfortran:getlincoef numpy.f2py.crackfortran:_eval_length "
    "numpy.f2py.crackfortran:param_eval",
    "GHSA-vv6j": "torch.utils._config_module:ConfigModule.load_config torch.utils._config_module:load_config",
    "GHSA-vr7h": "torch.jit.unsupported_tensor_ops:execWrapper",
    "GHSA-f745": "torch.utils.collect_env:run torch.utils.collect_env:run_and_read_all",
    "GHSA-f4x7": "torch.fx.experimental.symbolic_shapes:ShapeEnv.evaluate_guards_expression "
    "torch._dynamo.guards:GuardBuilder.get torch._dynamo.guards:GuardBuilder.evaluate_guards",
    "GHSA-86cj": "torch.utils.data.datapipes.utils.decoder:basichandlers torch.utils._config_module:exec",
    "GHSA-h3qp": "torch.utils.data.datapipes.utils.decoder:basichandlers",
    "GHSA-4r9r": "torch.utils.bottleneck.__main__:run_cprofile torch.utils.bottleneck.__main__:run_autograd_prof",
    "GHSA-9xph": "idlelib.pyshell:ModifiedInterpreter.runcode idlelib.pyshell:ModifiedInterpreter.runcommand",
    "GHSA-m869": "idlelib.run:Executive.runcode idlelib.autocomplete:AutoComplete.get_entity "
    "idlelib.calltip:get_entity idlelib.debugobj:ObjectTreeItem.SetText",
    "GHSA-49gj": "cProfile:run cProfile:runctx",
    "GHSA-7wx9-6375-f5wh": "profile:run profile:Profile.run profile:Profile.runctx",
    "GHSA-5qwp": "trace:Trace.run trace:Trace.runctx",
    "GHSA-f54q": "lib2to3.pgen2.grammar:Grammar.loads",
    "GHSA-p9w7": "lib2to3.pgen2.pgen:ParserGenerator.make_label",
    "GHSA-v7x6-rv5q-mhwc": "timeit:timeit",
    "GHSA-xp4f-hrf8-rxw7": "ensurepip:_run_pip",
    "GHSA-565g": "marshal:loads types:FunctionType",
    "GHSA-wfq2": "runpy:run_path runpy:_run_code importlib:import_module importlib.util:spec_from_file_location",
    "GHSA-q5qq": "code:interact code:InteractiveInterpreter.runcode multiprocessing.util:spawnv_passfds "
    "multiprocessing:Process",
    "GHSA-5hvc": "ctypes:PyDLL pydoc:locate pydoc:pipepager pydoc:tempfilepager",
    "GHSA-h4rm": "builtins:__import__ __builtin__:__import__",
    "GHSA-5j3x": "torch.serialization:os.system collections:_sys.modules.get json:decoder.scanner.sys.modules",
    "GHSA-6ggj": "_interpreters:create _xxsubinterpreters:run_string _interpchannels:create "
    "concurrent.interpreters:create",
    "GHSA-cffv": "smtplib:SMTP sqlite3:connect ftplib:FTP telnetlib:Telnet xmlrpc.client:ServerProxy",
    "CVE-2025-32434": "torch:load torch.jit:load torch.hub:load torch.storage:_load_from_bytes "
    "torch._C:import_ir_module",
    "nullifAI": "builtins:exec os:system posix:system nt:system subprocess:Popen",
}
"""Advisory → `module:name` of what its proof of concept calls."""

GADGET_CASES = [(number, gadget) for number, gadgets in GADGETS.items() for gadget in gadgets.split()]
