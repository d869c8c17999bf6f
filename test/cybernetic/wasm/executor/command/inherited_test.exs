defmodule Cybernetic.WASM.Executor.Command.InheritedTest do
  # The VM's own streams, or some of them. Not async: it captures the VM's standard error.
  use ExUnit.Case, async: false

  import Cybernetic.WASM.{Commands, Eventually, Guests, Programs, Streams}
  import ExUnit.CaptureIO, only: [with_io: 2]

  alias Cybernetic.WASM.{Denial, Executor, Run, Sandbox}
  alias Cybernetic.WASM.{HostError, LimitError}

  describe "standard streams that are granted one by one" do
    test "are there or not" do
      for {granted, exit_code, stdout, stderr} <- [
            {[stdout: :captured, stderr: :captured], 0, "xx", ""},
            {[stderr: :captured], 1, "", "flood badf\n"},
            {[stdout: :captured], 0, "xx", ""},
            {[stdin: :captured], 1, "", ""},
            {:none, 1, "", ""},
            {:streamed, 0, "xx", ""}
          ] do
        run = run!("tool", ["flood", "2"], sandbox: sandbox(stdio: granted))
        assert {run.exit_code, run.stdout, run.stderr} == {exit_code, stdout, stderr}
      end
    end

    test "are refused each for itself" do
      sandbox = sandbox(stdio: [stdout: :captured])
      run = run!("tool", ["stderr", "lost"], sandbox: sandbox)
      assert {run.stdout, run.stderr} == {"", ""}

      assert [%Denial{capability: :stdio, operation: "fd_write", detail: "stderr", errno: :badf}] =
               run.denials

      # The command then wants to say so.
      assert [%Denial{operation: "fd_read", detail: "stdin"}, %Denial{detail: "stderr"}] =
               run!("tool", ["cat"], sandbox: sandbox).denials
    end

    test "may be some captured and some the VM's" do
      {:ok, device} = StringIO.open("")
      sandbox = sandbox(stdio: [stdin: :captured, stdout: :inherited, stderr: :captured])

      run =
        led_by(device, fn -> run!("tool", ["cat"], stdin: "to the device", sandbox: sandbox) end)

      assert {run.stdout, run.stderr} == {"", ""}
      assert StringIO.contents(device) == {"", "to the device"}

      run = led_by(device, fn -> run!("tool", ["stderr", "captured"], sandbox: sandbox) end)
      assert {run.stdout, run.stderr} == {"", "captured\n"}
      assert StringIO.contents(device) == {"", "to the device"}
    end
  end

  describe "the VM's own standard streams" do
    test "are those of the calling process's group leader" do
      {:ok, device} = StringIO.open("erste Zeile äöü\nzweite → 語\nno end of line")
      run = led_by(device, fn -> run!("tool", ["upper"], sandbox: sandbox(stdio: :inherited)) end)
      assert {run.exit_code, run.stdout, run.stderr} == {0, "", ""}

      assert StringIO.contents(device) ==
               {"", "ERSTE ZEILE äöü\nZWEITE → 語\nNO END OF LINE"}
    end

    test "are read a line at a time, and no further than the guest reads" do
      {:ok, device} = StringIO.open("one\ntwo\nthree\n")
      sandbox = sandbox(stdio: :inherited)
      assert led_by(device, fn -> call("take", [100, 2], sandbox: sandbox) end) == {:ok, 8}
      assert StringIO.contents(device) == {"three\n", ""}
      # What the guest did not want of a line is gone with it.
      assert led_by(device, fn -> call("take", [1, 1], sandbox: sandbox) end) == {:ok, 1}
      assert StringIO.contents(device) == {"", ""}
      assert led_by(device, fn -> call("take", [1, 1], sandbox: sandbox) end) == {:ok, 0}
    end

    test "are not read where the call gives an input" do
      {:ok, device} = StringIO.open("unread\n")

      assert led_by(device, fn ->
               call("take", [9, 1], stdin: "given", sandbox: sandbox(stdio: :inherited))
             end) == {:ok, 5}

      assert StringIO.contents(device) == {"unread\n", ""}
    end

    test "may take bytes" do
      bytes = <<228, 246, 10, 0, 255>>
      {:ok, device} = StringIO.open(bytes, encoding: :latin1)
      run = led_by(device, fn -> run!("tool", ["cat"], sandbox: sandbox(stdio: :inherited)) end)
      assert run.exit_code == 0
      assert StringIO.contents(device) == {"", bytes}

      {:ok, device} = StringIO.open("", encoding: :latin1)
      sandbox = sandbox(stdio: [stdin: :captured, stdout: :inherited])
      led_by(device, fn -> run!("tool", ["cat"], stdin: "ä → 語", sandbox: sandbox) end)
      assert StringIO.contents(device) == {"", "ä → 語"}
    end

    test "take bytes that are no text as Latin-1, where they take text" do
      {:ok, device} = StringIO.open("")
      sandbox = sandbox(stdio: [stdin: :captured, stdout: :inherited])
      led_by(device, fn -> run!("tool", ["cat"], stdin: <<"a", 255, 228>>, sandbox: sandbox) end)
      assert StringIO.contents(device) == {"", "aÿä"}
    end

    test "take a character whose bytes come in two writes" do
      # A program writes its buffer when that is full, wherever in the text that is.
      {:ok, device} = StringIO.open("")
      sandbox = sandbox(stdio: [stdin: :captured, stdout: :inherited])
      text = "x" <> String.duplicate("é語", 30_000)
      led_by(device, fn -> run!("tool", ["cat"], stdin: text, sandbox: sandbox) end)
      {"", written} = StringIO.contents(device)
      assert String.length(written) == String.length(text)
      assert written == text
    end

    test "are asked for one thing after the other, in the order of the guest's doing" do
      device = device(["one\n", "two\n"])

      stdin =
        led_by(device, fn ->
          call("echo", [], sandbox: sandbox(stdio: :inherited), imports: told())
        end)

      assert stdin == {:ok, 0}

      assert requests() |> Enum.reject(&(&1 == :getopts)) ==
               [
                 :called,
                 :get,
                 {:put, "one\n"},
                 :called,
                 :get,
                 {:put, "two\n"},
                 :called,
                 :get
               ]
    end

    test "are at their end where the device is" do
      device = device(["one\n"])

      assert led_by(device, fn -> call("take", [100, 3], sandbox: sandbox(stdio: :inherited)) end) ==
               {:ok, 4}
    end

    test "end the guest where the device fails, with what it said" do
      device = device(["one\n", {:error, :eio}])

      assert {:error, %HostError{reason: %IO.StreamError{reason: :eio}, run: run} = error} =
               led_by(device, fn ->
                 run("tool", ["upper"], sandbox: sandbox(stdio: :inherited))
               end)

      assert error.import == {"wasi_snapshot_preview1", "fd_read"}
      assert {:asked, {:put, "ONE\n"}} in mailbox()
      assert %Run{stdout: ""} = run
    end

    test "end the guest where the device takes nothing more, and close its input" do
      {gone, monitor} = spawn_monitor(fn -> :ok end)
      assert_receive {:DOWN, ^monitor, :process, _, _}
      sandbox = sandbox(stdio: [stdin: :captured, stdout: :inherited])

      assert {:error, %HostError{reason: %IO.StreamError{reason: :terminated}} = error} =
               led_by(gone, fn -> cat(source(["a", "b"]), sandbox: sandbox) end)

      assert error.import == {"wasi_snapshot_preview1", "fd_write"}
      assert mailbox() == [:opened, {:pulled, "a"}, :closed]
    end

    test "count against the output limit" do
      {:ok, device} = StringIO.open("")
      sandbox = sandbox(stdio: :inherited, max_output: 100_000)

      assert {:error, %LimitError{limit: :output, allowed: 100_000, run: run}} =
               led_by(device, fn -> run("tool", ["flood-forever"], sandbox: sandbox) end)

      assert run.stdout == ""
      {"", written} = StringIO.contents(device)
      assert byte_size(written) in 65_536..100_000
    end

    test "have standard error, too" do
      {run, written} =
        with_io(:stderr, fn ->
          run!("tool", ["stderr", "grüße"], sandbox: sandbox(stdio: :inherited))
        end)

      assert written =~ "grüße\n"
      assert {run.stdout, run.stderr} == {"", ""}
    end

    test "are no part of a stream, which has the others" do
      {:ok, device} = StringIO.open("")
      sandbox = sandbox(stdio: [stdout: :inherited, stderr: :captured])

      elements =
        led_by(device, fn ->
          Executor.stream(
            guest(),
            "mix",
            [],
            options(imports: f(&emit/2), sandbox: sandbox, tagged: true)
          )
          |> Enum.to_list()
        end)

      assert [stderr: "b", output: "c", output: "f", stderr: "g", done: %Run{stdout: ""}] =
               elements

      assert StringIO.contents(device) == {"", "ade"}
    end

    test "are used by linked modules, too" do
      lib =
        load!(~S"""
        (module
          (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\08\00\00\00\03\00\00\00lib")
          (func (export "say") (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))
        """)

      main =
        load!(~S|(module (import "lib" "say" (func $say)) (func (export "_start") (call $say)))|)

      {:ok, device} = StringIO.open("")

      {:ok, run} =
        led_by(device, fn ->
          Executor.run(main, :start,
            imports: %{"lib" => lib},
            sandbox: Sandbox.new(stdio: :inherited)
          )
        end)

      assert StringIO.contents(device) == {"", "lib"}
      assert run.stdout == ""
    end

    # A device that takes characters, gives these lines, and tells the test what it is asked for.
    defp device(lines) do
      test = self()
      spawn_link(fn -> serve(lines, test) end)
    end

    defp serve(lines, test) do
      receive do
        {:io_request, from, reference, request} ->
          {told, reply, lines} = answer(request, lines)
          send(test, {:asked, told})
          send(from, {:io_reply, reference, reply})
          serve(lines, test)
      end
    end

    # It reads lines, and hands over as much of them as it is asked for.
    defp answer(:getopts, lines), do: {:getopts, [encoding: :unicode, binary: true], lines}

    defp answer({:get_until, :unicode, _, _, _, _}, [{:error, _} = no | rest]),
      do: {:get, no, rest}

    defp answer({:get_until, :unicode, _prompt, module, function, args}, lines) do
      {characters, lines} =
        case lines do
          [line | lines] -> {String.to_charlist(line), lines}
          [] -> {:eof, []}
        end

      {:done, result, rest} = apply(module, function, [[], characters | args])
      true = rest in [[], :eof]
      {:get, result, lines}
    end

    defp answer({:put_chars, :unicode, chars}, lines),
      do: {{:put, IO.chardata_to_string(chars)}, :ok, lines}

    defp requests do
      for message <- mailbox() do
        case message do
          {:asked, what} -> what
          other -> other
        end
      end
    end
  end

  describe "an asynchronous command" do
    test "that inherits the VM's streams has those of the process that started it" do
      {:ok, device} = StringIO.open("in")
      sandbox = Sandbox.new(stdio: :inherited)

      start = fn -> Executor.async(program("tool"), :start, args: ["cat"], sandbox: sandbox) end
      started = led_by(device, start)

      assert {:ok, 0} = Executor.await(started)
      assert StringIO.contents(device) == {"", "in"}
    end
  end
end
