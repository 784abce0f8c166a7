# nginx's ./configure reads this file when it writes the Makefile: the rule for the archive that "config" names.

if [ -n "$push_stream_lib" ]; then
    case $NGX_OBJS in
    /*) push_stream_objs=$NGX_OBJS ;;
    *) push_stream_objs=$PWD/$NGX_OBJS ;;
    esac

    cat << END                                                >> $NGX_MAKEFILE

# cargo knows itself whether there is anything to do
.PHONY: $push_stream_lib

$push_stream_lib:
	NGINX_SOURCE_DIR="$PWD" NGINX_BUILD_DIR="$push_stream_objs" \\
	$NGX_CARGO rustc --config "$ngx_addon_dir/.cargo/config.toml" \\
		--locked --release --lib --crate-type staticlib \\
		--no-default-features --features nginx \\
		--manifest-path "$ngx_addon_dir/Cargo.toml" \\
		--target-dir "$push_stream_objs/push_stream" \\
		${NGX_RUST_TARGET:+--target $NGX_RUST_TARGET} $NGX_RUSTC_OPT

END

    if [ -n "$push_stream_module" ]; then
        cat << END                                            >> $NGX_MAKEFILE
$NGX_OBJS$ngx_dirsep$push_stream_module$ngx_modext:	$push_stream_lib
END
    fi
fi
